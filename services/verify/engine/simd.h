#ifndef STRATA_SERVICES_VERIFY_ENGINE_SIMD_H_
#define STRATA_SERVICES_VERIFY_ENGINE_SIMD_H_

#include <cstdint>
#include <cstring>

#include "services/verify/engine/bf16.h"

// Sixteen fp32 lanes as a GCC vector: the compiler lowers them to whatever the
// machine has. A lane's result never depends on another lane's, nor on how many
// lanes the machine computes at once.
namespace strata::engine {

using F32x16 = float __attribute__((vector_size(64)));
using I32x16 = int32_t __attribute__((vector_size(64)));
using U16x16 = uint16_t __attribute__((vector_size(32)));
using U32x16 = uint32_t __attribute__((vector_size(64)));

#define STRATA_INLINE __attribute__((always_inline)) inline
// One build runs on any x86-64; the best clone is chosen when the program loads.
// Sanitizers' instrumentation does not survive the ifunc resolvers that clones need.
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define STRATA_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define STRATA_CLONES
#endif

// Vectors travel by reference: by value, the clones would disagree on the ABI.
STRATA_INLINE void Load(const float* from, F32x16& out) { std::memcpy(&out, from, sizeof(out)); }
STRATA_INLINE void Load(const Bf16* from, F32x16& out) {
  U16x16 half;
  std::memcpy(&half, from, sizeof(half));
  U32x16 word = __builtin_convertvector(half, U32x16) << 16;
  std::memcpy(&out, &word, sizeof(out));
}
STRATA_INLINE void Store(const F32x16& value, float* to) { std::memcpy(to, &value, sizeof(value)); }
// Rounds to nearest, ties to even; keeps NaN.
STRATA_INLINE void Store(const F32x16& value, Bf16* to) {
  U32x16 word;
  std::memcpy(&word, &value, sizeof(word));
  U32x16 rounded = (word + 0x7FFF + ((word >> 16) & 1)) >> 16;
  const I32x16 nan = value != value;  // NOLINT(misc-redundant-expression)
  rounded = nan ? (U32x16{} + 0x7FC0) : rounded;
  U16x16 half = __builtin_convertvector(rounded, U16x16);
  std::memcpy(to, &half, sizeof(half));
}
STRATA_INLINE void Fill(float x, F32x16& out) { out = F32x16{} + x; }

// The lanes' sum in one fixed order.
STRATA_INLINE float Sum(const F32x16& v) {
  float s8[8];
  for (int i = 0; i < 8; ++i) s8[i] = v[i] + v[i + 8];
  return ((s8[0] + s8[4]) + (s8[2] + s8[6])) + ((s8[1] + s8[5]) + (s8[3] + s8[7]));
}

// e^x to about 2 ulp for x in [-87, 88]; below -87 it stays at e^-87, above 88 at
// e^88 (Cephes' expf: range reduction by ln 2, a polynomial of degree 5).
STRATA_INLINE void Exp(const F32x16& x, F32x16& out) {
  F32x16 low, high;
  Fill(-87.0f, low);
  Fill(88.0f, high);
  F32x16 v = x > low ? x : low;
  v = v < high ? v : high;
  // Adding and taking away 1.5 * 2^23 rounds to the nearest whole number.
  F32x16 magic;
  Fill(12582912.0f, magic);
  F32x16 shifted = v * 1.44269504088896341f + magic;
  F32x16 n = shifted - magic;
  F32x16 r = v - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  F32x16 p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  I32x16 exponent = __builtin_convertvector(n, I32x16);
  I32x16 scale_bits = (exponent + 127) << 23;
  F32x16 scale;
  std::memcpy(&scale, &scale_bits, sizeof(scale));
  out = p * scale;
}

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_SIMD_H_
