#include "services/verify/engine/parallel.h"

#include <ATen/Parallel.h>

#if !defined(_OPENMP)
#error "compile this file for OpenMP: at::parallel_for is a plain loop without"
#endif

#if defined(__SANITIZE_THREAD__)
// libgomp is not instrumented: its barriers are told to the sanitizer here.
extern "C" {
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}
#define STRATA_TSAN_ACQUIRE(address) __tsan_acquire(address)
#define STRATA_TSAN_RELEASE(address) __tsan_release(address)
#else
#define STRATA_TSAN_ACQUIRE(address) static_cast<void>(address)
#define STRATA_TSAN_RELEASE(address) static_cast<void>(address)
#endif

namespace strata::engine {

void ParallelFor(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body) {
  if (count <= grain) {
    if (count > 0) body(0, count);
    return;
  }
  char fork = 0;
  char join = 0;
  STRATA_TSAN_RELEASE(&fork);
  at::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) {
    STRATA_TSAN_ACQUIRE(&fork);
    body(begin, end);
    STRATA_TSAN_RELEASE(&join);
  });
  STRATA_TSAN_ACQUIRE(&join);
}

}  // namespace strata::engine
