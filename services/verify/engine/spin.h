#ifndef STRATA_SERVICES_VERIFY_ENGINE_SPIN_H_
#define STRATA_SERVICES_VERIFY_ENGINE_SPIN_H_

#include <atomic>
#include <cstdint>

namespace strata::engine {

// Returns when `value` is not `old`: looks so many times, some 50 ns each, and then sleeps until it
// is notified.
inline void AwaitChange(const std::atomic<uint32_t>& value, uint32_t old, int spins) {
  for (int i = 0; i < spins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
  while (value.load(std::memory_order_acquire) == old) value.wait(old);
}

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_SPIN_H_
