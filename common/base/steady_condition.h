#ifndef STRATA_COMMON_BASE_STEADY_CONDITION_H_
#define STRATA_COMMON_BASE_STEADY_CONDITION_H_

#include <algorithm>
#include <chrono>
#include <condition_variable>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/base/steady_clock.h"

namespace strata {

// Waits with a time limit for what an absl::Mutex guards, by SteadyNow. The limits of Abseil's own
// waits (release 20220623) follow the machine's clock: set that back by an hour, and a wait of 20
// ms that is under way lasts an hour longer.
class SteadyCondition {
 public:
  // After a change that somebody may wait for.
  void NotifyAll() { changed_.notify_all(); }

  // Until `ready()`, which holds `mutex`, or `deadline`; whether it is ready.
  template <typename Ready>
  bool WaitUntil(absl::Mutex& mutex, absl::Time deadline, const Ready& ready)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    if (ready()) return true;
    // A day stands for ever: more would overflow the clock.
    const absl::Duration left = std::min(deadline - SteadyNow(), absl::Hours(24));
    // Whoever waits for no time would sleep all the same, for the 50 us that Linux's timers have.
    if (left <= absl::ZeroDuration()) return false;
    Lockable lock(mutex);
    return changed_.wait_for(lock, absl::ToChronoNanoseconds(left), ready);
  }
  template <typename Ready>
  bool WaitFor(absl::Mutex& mutex, absl::Duration timeout, const Ready& ready)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    return WaitUntil(mutex, SteadyNow() + timeout, ready);
  }

 private:
  // What std::condition_variable_any takes.
  class Lockable {
   public:
    explicit Lockable(absl::Mutex& mutex) : mutex_(mutex) {}
    void lock() ABSL_NO_THREAD_SAFETY_ANALYSIS { mutex_.Lock(); }
    void unlock() ABSL_NO_THREAD_SAFETY_ANALYSIS { mutex_.Unlock(); }

   private:
    absl::Mutex& mutex_;
  };

  std::condition_variable_any changed_;
};

}  // namespace strata

#endif  // STRATA_COMMON_BASE_STEADY_CONDITION_H_
