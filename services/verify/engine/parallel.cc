#include "services/verify/engine/parallel.h"

#include <ATen/Parallel.h>

#if !defined(_OPENMP)
#error "compile this file for OpenMP: at::parallel_for is a plain loop without"
#endif

namespace strata::engine {

void ParallelFor(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body) {
  if (count <= grain) {
    if (count > 0) body(0, count);
    return;
  }
  at::parallel_for(0, count, grain, body);
}

}  // namespace strata::engine
