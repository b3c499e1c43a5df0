#ifndef STRATA_SERVICES_VERIFY_ENGINE_CUDA_STEP_BUFFER_H_
#define STRATA_SERVICES_VERIFY_ENGINE_CUDA_STEP_BUFFER_H_

#include <ATen/core/Tensor.h>
#include <ATen/cuda/CUDAEvent.h>
#include <c10/cuda/CUDAStream.h>

#include <cstdint>

#include "services/verify/engine/cuda/step.h"

namespace strata::engine::cuda {

// A StepInput in a device's memory, and pinned memory from which it is filled by one copy.
class StepBuffer {
 public:
  // group_rows: see PackStep. Everything happens on `stream`, which is current whenever a method is
  // called.
  StepBuffer(int group_rows, c10::cuda::CUDAStream stream);

  // Makes `rows` the step's, after what is on the stream already. *moved: whether step() has moved
  // to make room, so that graphs which hold its old address are of no use any more.
  StepGrid Fill(const StepRows& rows, bool* moved);

  // In the device's memory.
  const StepInput* step() const { return static_cast<const StepInput*>(device_.const_data_ptr()); }

 private:
  void Resize(int64_t bytes);

  const int group_rows_;
  const c10::cuda::CUDAStream stream_;
  at::Tensor pinned_;
  at::Tensor device_;
  at::cuda::CUDAEvent copied_;  // since the last Fill
};

}  // namespace strata::engine::cuda

#endif  // STRATA_SERVICES_VERIFY_ENGINE_CUDA_STEP_BUFFER_H_
