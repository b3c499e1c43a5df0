#ifndef STRATA_SERVICES_VERIFY_ENGINE_CUDA_CUDA_BLOCK_H_
#define STRATA_SERVICES_VERIFY_ENGINE_CUDA_CUDA_BLOCK_H_

#include <cuda_pipeline_primitives.h>

#include <cstddef>
#include <cstdint>

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
    // Transposed: 2 x 16 columns of b by 8 rows of a, for that is the shape that tensor cores have.
    template <bool kTransposed>
    STRATA_DEVICE void Multiply8x32(const Bf16* a, int a_stride, const Bf16* b, int b_stride,
                                    int depth, float* c, int c_stride) {
      const int lane = static_cast<int>(threadIdx.x % kWarpLanes);
      const int eighth = lane / 8, line = lane % 8;
      float sum[2][4] = {};
#pragma unroll 4
      for (int k = 0; k < depth; k += 16) {
        uint32_t x[2];
        asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                     : "=r"(x[0]), "=r"(x[1])
                     : "r"(SharedAddress(a + line * a_stride + k + eighth % 2 * 8)));
        STRATA_UNROLL
        for (int half = 0; half < 2; ++half) {
          uint32_t y[4];
          if constexpr (kTransposed) {
            const Bf16* from = b + (half * 16 + eighth % 2 * 8 + line) * b_stride;
            asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                         : "=r"(y[0]), "=r"(y[1]), "=r"(y[2]), "=r"(y[3])
                         : "r"(SharedAddress(from + k + eighth / 2 * 8)));
          } else {
            const Bf16* from = b + (k + eighth / 2 * 8 + line) * b_stride;
            asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                         : "=r"(y[0]), "=r"(y[1]), "=r"(y[2]), "=r"(y[3])
                         : "r"(SharedAddress(from + half * 16 + eighth % 2 * 8)));
          }
          asm volatile(
              "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
              "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
              : "+f"(sum[half][0]), "+f"(sum[half][1]), "+f"(sum[half][2]), "+f"(sum[half][3])
              : "r"(y[0]), "r"(y[1]), "r"(y[2]), "r"(y[3]), "r"(x[0]), "r"(x[1]));
        }
      }
      STRATA_UNROLL
      for (int half = 0; half < 2; ++half) {
        float* to = c + lane % 4 * 2 * c_stride + half * 16 + lane / 4;
        to[0] = sum[half][0];
        to[c_stride] = sum[half][1];
        to[8] = sum[half][2];
        to[c_stride + 8] = sum[half][3];
      }
      __syncwarp();
    }

   private:
    static STRATA_DEVICE uint32_t SharedAddress(const void* p) {
      return static_cast<uint32_t>(__cvta_generic_to_shared(p));
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
