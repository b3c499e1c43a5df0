#include "tests/engine/cuda_emulation.h"

namespace strata::testing {

template class EmulatedLauncher<float>;
template class EmulatedLauncher<engine::Bf16>;

}  // namespace strata::testing
