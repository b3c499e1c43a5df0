#ifndef STRATA_COMMON_BASE_STEADY_CLOCK_H_
#define STRATA_COMMON_BASE_STEADY_CLOCK_H_

#include <chrono>

#include "absl/time/time.h"

namespace strata {

// The time for deadlines, pauses and durations: it is not set, as the machine's clock is (by NTP,
// by hand, after a virtual machine slept), so an hour's jump of that neither ends nor stretches
// what is under way. Counted from no particular moment: compare it with itself alone, never with
// absl::Now(), and not in absl::Mutex's waits (see steady_condition.h).
inline absl::Time SteadyNow() {
  return absl::UnixEpoch() + absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
}

}  // namespace strata

#endif  // STRATA_COMMON_BASE_STEADY_CLOCK_H_
