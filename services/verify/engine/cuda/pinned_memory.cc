#include "services/verify/engine/cuda/pinned_memory.h"

#include <c10/cuda/CUDAException.h>
#include <cuda_runtime_api.h>

#include <cstddef>

namespace strata::engine::cuda {
namespace {

class Resource final : public std::pmr::memory_resource {
  // Page-aligned, whatever is asked for.
  void* do_allocate(size_t bytes, size_t /*alignment*/) override {
    void* memory = nullptr;
    C10_CUDA_CHECK(cudaHostAlloc(&memory, bytes, cudaHostAllocPortable));
    return memory;
  }
  void do_deallocate(void* memory, size_t /*bytes*/, size_t /*alignment*/) override {
    // At the end of a process the driver may have gone, and the memory with it.
    if (cudaFreeHost(memory) != cudaSuccess) (void)cudaGetLastError();
  }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
    return this == &other;
  }
};

}  // namespace

std::pmr::memory_resource* PinnedMemory() {
  static Resource resource;
  return &resource;
}

}  // namespace strata::engine::cuda
