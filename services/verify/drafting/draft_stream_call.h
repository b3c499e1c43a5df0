#ifndef STRATA_SERVICES_VERIFY_DRAFTING_DRAFT_STREAM_CALL_H_
#define STRATA_SERVICES_VERIFY_DRAFTING_DRAFT_STREAM_CALL_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/base/steady_condition.h"
#include "strata/v1/draft.grpc.pb.h"

namespace strata::verify {

// One DraftStream. Nothing blocks except Await, and that only until its deadline:
// reads and writes run on gRPC's threads (callback API), so a peer that is stopped,
// and whose window is full, holds up nobody. Deadlines are SteadyNow's. Thread-safe.
class DraftStreamCall final : public grpc::ClientBidiReactor<v1::DraftRequest, v1::DraftResponse> {
 public:
  // Takes `request` to be sent, and makes its step the one awaited. False, with
  // nothing sent, if the stream has ended or the message before is not out by `deadline`.
  bool TrySend(v1::DraftRequest& request, absl::Time deadline) ABSL_LOCKS_EXCLUDED(mutex_);
  // Waits for the answer to the step sent last; `*arrival` is when it came, if that is asked. False
  // at the deadline, or when the stream ends. Answers to earlier steps are dropped.
  bool Await(absl::Time deadline, v1::DraftResponse& response, absl::Time* arrival = nullptr)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Takes what was drafted ahead with the step sent last. False if it has not come.
  bool TakeAhead(v1::DraftResponse& response) ABSL_LOCKS_EXCLUDED(mutex_);

  // Whether the stream can carry nothing more.
  bool ended() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Why it ended; waits for the reason until `deadline`, then says UNKNOWN.
  grpc::Status status(absl::Time deadline) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Ends it from this side.
  void Cancel() { context_.TryCancel(); }

  void OnReadDone(bool ok) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnDone(const grpc::Status& status) override ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  friend class DraftStreams;
  DraftStreamCall() = default;

  grpc::ClientContext context_;
  // Used by gRPC between StartRead/StartWrite and its callback.
  v1::DraftRequest outgoing_;
  v1::DraftResponse incoming_;

  mutable absl::Mutex mutex_;
  // Of all that is waited for below.
  mutable SteadyCondition changed_;
  // Keeps the object alive until OnDone.
  std::shared_ptr<DraftStreamCall> self_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::Status status_ ABSL_GUARDED_BY(mutex_);
  uint64_t awaited_step_ ABSL_GUARDED_BY(mutex_) = 0;
  bool answered_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time arrival_ ABSL_GUARDED_BY(mutex_);
  v1::DraftResponse answer_ ABSL_GUARDED_BY(mutex_);
  bool has_ahead_ ABSL_GUARDED_BY(mutex_) = false;
  v1::DraftResponse ahead_ ABSL_GUARDED_BY(mutex_);
};

// Starts streams, and outlives them. The last reference to a stream may be gRPC's own, dropped on a
// thread of the channel; were the channel's last reference dropped with it, the thread would wait
// for itself. Thread-safe.
class DraftStreams {
 public:
  // `stub` keeps the channel, and is destroyed later.
  explicit DraftStreams(v1::DraftService::Stub& stub);
  // Waits until gRPC is done with all streams, which are to be cancelled or at their end.
  ~DraftStreams();
  DraftStreams(const DraftStreams&) = delete;
  DraftStreams& operator=(const DraftStreams&) = delete;

  // The object stays alive until gRPC is done with it.
  std::shared_ptr<DraftStreamCall> Start();
  // Whether gRPC is done with all streams, so that the destructor would not wait.
  bool idle() const;

 private:
  struct Live {
    absl::Mutex mutex;
    int streams ABSL_GUARDED_BY(mutex) = 0;
  };

  v1::DraftService::Stub& stub_;
  const std::shared_ptr<Live> live_;
};

}  // namespace strata::verify

#endif  // STRATA_SERVICES_VERIFY_DRAFTING_DRAFT_STREAM_CALL_H_
