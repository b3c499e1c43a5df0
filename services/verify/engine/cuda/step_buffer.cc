#include "services/verify/engine/cuda/step_buffer.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAException.h>
#include <cuda_runtime_api.h>

namespace strata::engine::cuda {
namespace {

// Room for the pages of some hundred long sequences.
constexpr int64_t kFirstBytes = 1 << 20;

}  // namespace

StepBuffer::StepBuffer(int group_rows, c10::cuda::CUDAStream stream)
    : group_rows_(group_rows), stream_(stream) {
  Resize(kFirstBytes);
}

StepGrid StepBuffer::Fill(const StepRows& rows, bool* moved) {
  const int64_t bytes = StepBytes(rows);
  // The last step's copy may still be reading the pinned memory.
  copied_.synchronize();
  *moved = bytes > pinned_.numel();
  if (*moved) {
    // Kernels of the last step may still be reading the old one.
    C10_CUDA_CHECK(cudaStreamSynchronize(stream_.stream()));
    Resize(2 * bytes);
  }
  const StepGrid grid = PackStep(rows, group_rows_, static_cast<std::byte*>(pinned_.data_ptr()));
  C10_CUDA_CHECK(cudaMemcpyAsync(device_.data_ptr(), pinned_.const_data_ptr(), bytes,
                                 cudaMemcpyHostToDevice, stream_.stream()));
  copied_.record(stream_);
  return grid;
}

void StepBuffer::Resize(int64_t bytes) {
  const auto options = at::TensorOptions().dtype(at::kByte);
  pinned_ = at::empty({bytes}, options.pinned_memory(true));
  device_ = at::zeros({bytes}, options.device(stream_.device()));
}

}  // namespace strata::engine::cuda
