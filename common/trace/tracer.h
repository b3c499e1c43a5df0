#ifndef STRATA_COMMON_TRACE_TRACER_H_
#define STRATA_COMMON_TRACE_TRACER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/metrics/counter.h"
#include "common/trace/otlp_json.h"
#include "common/trace/span.h"

namespace strata::trace {

struct TracerOptions {
  // Spans are appended to this file, a line of OTLP JSON for many. Empty: nothing is traced. A file
  // is one process's.
  std::string file;
  // A file that would grow over this is renamed to FILE.1, in place of an older one, and begun
  // anew: clients decide what is traced, but not how much of the disk it takes.
  uint64_t max_file_bytes = uint64_t{256} << 20;
  // Spans that wait to be written; what comes while so many wait is dropped and counted.
  size_t max_queued = 16384;
  // How long a span waits at most while there are few.
  absl::Duration flush_interval = absl::Milliseconds(500);
};

// Writes spans to a file with a thread of its own. Thread-safe.
class Tracer {
 public:
  struct Counters {
    metrics::Counter written;
    // For want of room in the queue, or of memory, or because they could not be written.
    metrics::Counter dropped;
    // Writes that failed.
    metrics::Counter failures;
  };

  // Null without a file. An error if the file cannot be opened, so that a wrong path is told at
  // the start; later troubles (a full disk) are logged, counted, and cost spans alone.
  static absl::StatusOr<std::unique_ptr<Tracer>> Start(const TracerOptions& options,
                                                       Resource resource);
  // Writes what waits.
  ~Tracer();
  Tracer(const Tracer&) = delete;
  Tracer& operator=(const Tracer&) = delete;

  // Takes no longer than to put the span in a queue: it never waits for the disk, and never fails.
  void Record(Span span) noexcept ABSL_LOCKS_EXCLUDED(mutex_);

  const Counters& counters() const { return counters_; }

 private:
  Tracer(const TracerOptions& options, Resource resource, int fd, uint64_t size);
  void Run() ABSL_LOCKS_EXCLUDED(mutex_);
  void Write(const std::vector<Span>& spans);
  // One line, at the end of the file; begins the file anew first if it would grow too long.
  absl::Status Append(const std::string& line);
  void Rotate();

  const TracerOptions options_;
  const Resource resource_;
  // From SteadyNow to the machine's clock, as that was set when tracing began: spans stay in each
  // other's bounds whatever becomes of it.
  const absl::Duration to_wall_clock_;
  Counters counters_;

  // The writer's alone.
  int fd_;
  uint64_t size_;
  // Whether the file ends within a line, because a write or an earlier process was cut short.
  bool torn_ = false;
  absl::Time next_complaint_ = absl::InfinitePast();

  absl::Mutex mutex_;
  std::vector<Span> queue_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  // Last: starts when all else is there.
  std::thread writer_;
};

// Where a part of something records its spans, and under which span; off by default, which costs a
// comparison.
struct Scope {
  // Borrowed. Null: nothing is recorded here.
  Tracer* tracer = nullptr;
  // Sampled if spans are recorded, here or elsewhere.
  Context context;

  bool on() const { return tracer != nullptr; }
};

}  // namespace strata::trace

#endif  // STRATA_COMMON_TRACE_TRACER_H_
