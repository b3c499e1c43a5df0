#ifndef STRATA_SERVICES_DRAFT_HIERARCHY_HELPER_THREADS_H_
#define STRATA_SERVICES_DRAFT_HIERARCHY_HELPER_THREADS_H_

#include <deque>
#include <exception>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/synchronization/mutex.h"

namespace strata::draft {

// Threads that help whoever has work in parts. A part is done by whoever is free first, so that
// nobody waits for a helper that others keep, or that has no core. Thread-safe.
class HelperThreads {
 public:
  // helpers: 0 or more; fewer if the process gets no more threads.
  explicit HelperThreads(int helpers);
  ~HelperThreads();
  HelperThreads(const HelperThreads&) = delete;
  HelperThreads& operator=(const HelperThreads&) = delete;

  // Calls work(part) once for each part in [0, parts), on this thread and on helpers; returns when
  // all are done. `work` is called from several threads at a time. What it throws is thrown here,
  // once all parts are done; without helpers the rest is left out.
  void Run(int parts, absl::FunctionRef<void(int)> work) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // Guarded by mutex_, as it is on the stack of its Run.
  struct Job {
    absl::FunctionRef<void(int)> work;
    int parts = 0;
    // The first that nobody has begun.
    int next = 0;
    int running = 0;
    std::exception_ptr thrown{};
  };

  void Help() ABSL_LOCKS_EXCLUDED(mutex_);
  // Does the next part of a job in jobs_, with the lock given up meanwhile.
  void DoPart(Job& job) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  absl::Mutex mutex_;
  // With parts that nobody has begun; each is its Run's.
  std::deque<Job*> jobs_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_HIERARCHY_HELPER_THREADS_H_
