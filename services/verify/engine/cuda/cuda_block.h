#ifndef STRATA_SERVICES_VERIFY_ENGINE_CUDA_CUDA_BLOCK_H_
#define STRATA_SERVICES_VERIFY_ENGINE_CUDA_CUDA_BLOCK_H_

#include <cuda_pipeline_primitives.h>

#include <cstddef>

#include "services/verify/engine/cuda/block.h"

namespace strata::engine::cuda {

// The Block (block.h) that a GPU runs: a thread runs its own part of each phase. For nvcc alone.
template <int kThreadCount>
class CudaBlock {
 public:
  static constexpr int kThreads = kThreadCount;
  static constexpr int kWarps = kThreads / kWarpLanes;

  // In the lane's registers, as long as all indices into the state are known when compiling.
  template <typename State>
  class PerLane {
   public:
    STRATA_DEVICE State& operator[](int) { return state_; }

   private:
    State state_;
  };

  class Lanes {
   public:
    template <typename Body>
    STRATA_DEVICE void ForEach(const Body& body) {
      body(static_cast<int>(threadIdx.x % kWarpLanes));
      __syncwarp();
    }
    STRATA_DEVICE void CopyAsync(void* to, const void* from) {
      __pipeline_memcpy_async(to, from, 16);
    }
    STRATA_DEVICE void EndGroup() { __pipeline_commit(); }
    template <int kPending>
    STRATA_DEVICE void WaitForGroups() {
      __pipeline_wait_prior(kPending);
      __syncwarp();
    }
  };

  STRATA_DEVICE int x() const { return static_cast<int>(blockIdx.x); }
  STRATA_DEVICE int y() const { return static_cast<int>(blockIdx.y); }
  STRATA_DEVICE std::byte* shared() const {
    extern __shared__ __align__(16) unsigned char memory[];
    return reinterpret_cast<std::byte*>(memory);
  }

  template <typename Body>
  STRATA_DEVICE void ForEachThread(const Body& body) {
    body(static_cast<int>(threadIdx.x));
    __syncthreads();
  }
  template <typename Body>
  STRATA_DEVICE void ForEachWarp(const Body& body) {
    Lanes lanes;
    body(static_cast<int>(threadIdx.x / kWarpLanes), lanes);
    __syncthreads();
  }
};

}  // namespace strata::engine::cuda

#endif  // STRATA_SERVICES_VERIFY_ENGINE_CUDA_CUDA_BLOCK_H_
