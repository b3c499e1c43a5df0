#include "services/verify/engine/model.h"

#include "services/verify/engine/cpu_model.h"
#if defined(STRATA_CUDA)
#include "services/verify/engine/cuda/cuda_model.h"
#endif

namespace strata::engine {

Result<std::unique_ptr<Model>> Model::Load(const ModelOptions& options, const ModelConfig& config) {
#if defined(STRATA_CUDA)
  if (options.device.kind == Device::Kind::kCuda) return cuda::LoadCudaModel(options, config);
#endif
  return LoadCpuModel(options, config);
}

}  // namespace strata::engine
