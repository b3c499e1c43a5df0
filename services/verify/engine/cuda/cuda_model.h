#ifndef STRATA_SERVICES_VERIFY_ENGINE_CUDA_CUDA_MODEL_H_
#define STRATA_SERVICES_VERIFY_ENGINE_CUDA_CUDA_MODEL_H_

#include <memory>

#include "services/verify/engine/model.h"

namespace strata::engine::cuda {

// Model on the CUDA device options.device, on a stream of its own. A pass runs in steps of up to
// kStepRows rows, each padded to a multiple of kLinearRows; the first step of a size is run kernel
// by kernel, the second captured as a CUDA graph, which all later ones replay.
//
// FAILED_PRECONDITION if there is no such device; UNIMPLEMENTED for weights of 8 bits.
Result<std::unique_ptr<Model>> LoadCudaModel(const ModelOptions& options,
                                             const ModelConfig& config);

}  // namespace strata::engine::cuda

#endif  // STRATA_SERVICES_VERIFY_ENGINE_CUDA_CUDA_MODEL_H_
