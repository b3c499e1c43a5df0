#ifndef STRATA_SERVICES_VERIFY_SERVER_STREAM_SINK_H_
#define STRATA_SERVICES_VERIFY_SERVER_STREAM_SINK_H_

#include <atomic>
#include <deque>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/base/steady_condition.h"
#include "services/verify/scheduler/generation.h"

namespace strata::verify {

// Hands a request's results from the thread that has them to the one that serves the
// call, so that a slow client holds up nobody. Holds at most one whole answer.
// Thread-safe.
class StreamSink final : public GenerationSink {
 public:
  struct End {
    absl::Status status;
    FinishReason reason = FinishReason::kNone;
    GenerationStats stats;
  };

  void OnChunk(GenerationChunk chunk) override ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    chunks_.push_back(std::move(chunk));
    changed_.NotifyAll();
  }
  void OnFinish(const absl::Status& status, FinishReason reason,
                const GenerationStats& stats) override ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    end_ = End{status, reason, stats};
    changed_.NotifyAll();
  }
  bool cancelled() const override { return cancelled_.load(std::memory_order_relaxed); }

  void Cancel() { cancelled_.store(true, std::memory_order_relaxed); }

  // Waits for results until `timeout`; takes all chunks that are there. `*end` is set once the
  // request has ended and nothing else follows.
  std::deque<GenerationChunk> Take(absl::Duration timeout, std::optional<End>* end)
      ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    changed_.WaitFor(mutex_, timeout, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return !chunks_.empty() || end_.has_value();
    });
    *end = end_;
    return std::exchange(chunks_, {});
  }

 private:
  std::atomic<bool> cancelled_ = false;
  absl::Mutex mutex_;
  SteadyCondition changed_;
  std::deque<GenerationChunk> chunks_ ABSL_GUARDED_BY(mutex_);
  std::optional<End> end_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace strata::verify

#endif  // STRATA_SERVICES_VERIFY_SERVER_STREAM_SINK_H_
