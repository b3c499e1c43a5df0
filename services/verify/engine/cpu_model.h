#ifndef STRATA_SERVICES_VERIFY_ENGINE_CPU_MODEL_H_
#define STRATA_SERVICES_VERIFY_ENGINE_CPU_MODEL_H_

#include <memory>

#include "services/verify/engine/model.h"

namespace strata::engine {

// Model on the CPU, weights packed at load. Ignores options.device.
Result<std::unique_ptr<Model>> LoadCpuModel(const ModelOptions& options, const ModelConfig& config);

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_CPU_MODEL_H_
