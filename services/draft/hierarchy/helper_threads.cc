#include "services/draft/hierarchy/helper_threads.h"

#include <algorithm>
#include <system_error>

namespace strata::draft {

HelperThreads::HelperThreads(int helpers) {
  threads_.reserve(static_cast<size_t>(std::max(helpers, 0)));
  try {
    for (int i = 0; i < helpers; ++i) threads_.emplace_back([this] { Help(); });
  } catch (const std::system_error&) {
    // The process may have no more threads. Work gets done without.
  }
}

HelperThreads::~HelperThreads() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
}

void HelperThreads::Run(int parts, absl::FunctionRef<void(int)> work) {
  if (threads_.empty() || parts < 2) {
    for (int part = 0; part < parts; ++part) work(part);
    return;
  }
  Job job = {.work = work, .parts = parts};
  absl::MutexLock lock(&mutex_);
  jobs_.push_back(&job);
  while (job.next < job.parts) DoPart(job);
  const auto done = [&job] { return job.running == 0; };
  mutex_.Await(absl::Condition(&done));
  if (job.thrown != nullptr) std::rethrow_exception(job.thrown);
}

void HelperThreads::Help() {
  const auto wanted = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || !jobs_.empty();
  };
  absl::MutexLock lock(&mutex_);
  for (;;) {
    mutex_.Await(absl::Condition(&wanted));
    if (jobs_.empty()) return;
    DoPart(*jobs_.front());
  }
}

void HelperThreads::DoPart(Job& job) {
  const int part = job.next++;
  if (job.next == job.parts) jobs_.erase(std::find(jobs_.begin(), jobs_.end(), &job));
  ++job.running;
  std::exception_ptr thrown;
  mutex_.Unlock();
  try {
    job.work(part);
  } catch (...) {
    thrown = std::current_exception();
  }
  mutex_.Lock();
  --job.running;
  if (thrown != nullptr) job.thrown = thrown;
}

}  // namespace strata::draft
