#ifndef STRATA_SERVICES_VERIFY_ENGINE_SILU_H_
#define STRATA_SERVICES_VERIFY_ENGINE_SILU_H_

#include "services/verify/engine/simd.h"

namespace strata::engine {

// out = silu(gate) * up, in each lane.
template <typename F32>
STRATA_INLINE void SiluTimes(const F32& gate, const F32& up, F32& out) {
  F32 e;
  const F32 negative = -gate;
  Exp(negative, e);
  out = gate / (e + 1.0f) * up;
}

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_SILU_H_
