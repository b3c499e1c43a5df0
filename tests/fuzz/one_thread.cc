// In the place of services/verify/engine/parallel.cc, which brings LibTorch.
#include "services/verify/engine/parallel.h"

namespace strata::engine {

void internal::ParallelFor(int64_t count, int64_t /*grain*/, Work /*work*/, PartBody call,
                           const void* body) {
  if (count > 0) call(body, 0, count);
}

}  // namespace strata::engine
