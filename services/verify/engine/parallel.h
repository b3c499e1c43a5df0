#ifndef STRATA_SERVICES_VERIFY_ENGINE_PARALLEL_H_
#define STRATA_SERVICES_VERIFY_ENGINE_PARALLEL_H_

#include <cstdint>
#include <functional>

namespace strata::engine {

// Calls body(begin, end) on parts of [0, count) of at least `grain`, on LibTorch's
// intra-op threads; on the calling thread alone if there is one part. A barrier costs
// microseconds on idle cores and milliseconds on busy ones, so grain should be generous.
void ParallelFor(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body);

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_PARALLEL_H_
