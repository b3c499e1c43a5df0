#ifndef STRATA_SERVICES_VERIFY_ENGINE_BF16_H_
#define STRATA_SERVICES_VERIFY_ENGINE_BF16_H_

#include <cstdint>
#include <cstring>

// Functions that the CPU's code and CUDA kernels share.
#if defined(__CUDACC__)
#define STRATA_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define STRATA_HOST_DEVICE __attribute__((always_inline)) inline
#endif

namespace strata::engine {

// A bfloat16 as it lies in memory.
struct Bf16 {
  uint16_t bits;
};

STRATA_HOST_DEVICE float ToFloat(float x) { return x; }
STRATA_HOST_DEVICE float ToFloat(Bf16 x) {
  const uint32_t word = static_cast<uint32_t>(x.bits) << 16;
  float out;
  memcpy(&out, &word, sizeof(out));
  return out;
}
// Rounds to nearest, ties to even; keeps NaN.
STRATA_HOST_DEVICE void FromFloat(float x, float& out) { out = x; }
STRATA_HOST_DEVICE void FromFloat(float x, Bf16& out) {
  uint32_t word;
  memcpy(&word, &x, sizeof(word));
  out.bits = x != x ? 0x7FC0 : static_cast<uint16_t>((word + 0x7FFF + ((word >> 16) & 1)) >> 16);
}

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_BF16_H_
