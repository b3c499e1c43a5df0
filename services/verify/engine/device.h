#ifndef STRATA_SERVICES_VERIFY_ENGINE_DEVICE_H_
#define STRATA_SERVICES_VERIFY_ENGINE_DEVICE_H_

#include <string>

#include "services/verify/engine/status.h"

namespace strata::engine {

// Where a model's weights, keys and values are and its passes run.
struct Device {
  enum class Kind { kCpu, kCuda };
  Kind kind = Kind::kCpu;
  int index = 0;  // of a CUDA device
};

// "cpu", "cuda" (the first device) or "cuda:N". UNIMPLEMENTED for anything else, and for CUDA in a
// build without it, naming what is allowed. Does not look whether the device is there.
Result<Device> ParseDevice(const std::string& name);

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_DEVICE_H_
