#ifndef STRATA_SERVICES_VERIFY_ENGINE_SIMD_H_
#define STRATA_SERVICES_VERIFY_ENGINE_SIMD_H_

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "services/verify/engine/bf16.h"

// Eight fp32 lanes as a GCC vector: one register of AVX2. Sixteen, one of AVX-512, are for
// functions that are compiled for that alone and called where HasAvx512(): on AVX2 they go through
// the stack, lane by lane (attention to 256 tokens took 20 times as long). A lane's result never
// depends on another lane's, nor on how many there are.
namespace strata::engine {

inline constexpr int kLanes = 8;
using F32x8 = float __attribute__((vector_size(32)));
using I32x8 = int32_t __attribute__((vector_size(32)));
using U16x8 = uint16_t __attribute__((vector_size(16)));
using U32x8 = uint32_t __attribute__((vector_size(32)));
using F32x16 = float __attribute__((vector_size(64)));
using I32x16 = int32_t __attribute__((vector_size(64)));
using U16x16 = uint16_t __attribute__((vector_size(32)));
using U32x16 = uint32_t __attribute__((vector_size(64)));

// By the number of lanes. (GCC drops a vector_size that depends on a template's parameter.)
template <int kWidth>
struct Vectors;
template <>
struct Vectors<8> {
  using F32 = F32x8;
  using I32 = I32x8;
  using U32 = U32x8;
  static constexpr I32 kLane = {0, 1, 2, 3, 4, 5, 6, 7};
};
template <>
struct Vectors<16> {
  using F32 = F32x16;
  using I32 = I32x16;
  using U32 = U32x16;
  static constexpr I32 kLane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
};

#define STRATA_INLINE __attribute__((always_inline)) inline
// One build runs on any x86-64; the best clone is chosen when the program loads.
// Sanitizers' instrumentation does not survive the ifunc resolvers that clones need.
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define STRATA_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define STRATA_CLONES
#endif

#if defined(__x86_64__)
#define STRATA_AVX512 __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")))
inline bool HasAvx512() {
  static const bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
  return has;
}
#endif

// Vectors travel by reference: by value, the clones would disagree on the ABI.
STRATA_INLINE void Load(const float* from, F32x8& out) { std::memcpy(&out, from, sizeof(out)); }
STRATA_INLINE void Load(const Bf16* from, F32x8& out) {
  U16x8 half;
  std::memcpy(&half, from, sizeof(half));
  U32x8 word = __builtin_convertvector(half, U32x8) << 16;
  std::memcpy(&out, &word, sizeof(out));
}
STRATA_INLINE void Load(const float* from, F32x16& out) { std::memcpy(&out, from, sizeof(out)); }
STRATA_INLINE void Load(const Bf16* from, F32x16& out) {
  U16x16 half;
  std::memcpy(&half, from, sizeof(half));
#if defined(__x86_64__) && !defined(__clang__)
  // GCC 12 widens in halves, with four shuffles, and its intrinsics cannot be inlined into
  // functions for any CPU, as those are that come here on their way into one for AVX-512.
  U32x16 word;
  asm("vpmovzxwd %1, %0" : "=v"(word) : "vm"(half));
#else
  U32x16 word = __builtin_convertvector(half, U32x16);
#endif
  word <<= 16;
  std::memcpy(&out, &word, sizeof(out));
}
STRATA_INLINE void Store(const F32x8& value, float* to) { std::memcpy(to, &value, sizeof(value)); }
STRATA_INLINE void Store(const F32x16& value, float* to) { std::memcpy(to, &value, sizeof(value)); }
// The bits of the nearest bf16, ties to even; keeps NaN.
template <typename F32, typename U32>
STRATA_INLINE void RoundToBf16(const F32& value, U32& bits) {
  U32 word;
  std::memcpy(&word, &value, sizeof(word));
  bits = (word + 0x7FFF + ((word >> 16) & 1)) >> 16;
  const auto nan = value != value;  // NOLINT(misc-redundant-expression)
  bits = nan ? (U32{} + 0x7FC0) : bits;
}
STRATA_INLINE void Store(const F32x8& value, Bf16* to) {
  U32x8 bits;
  RoundToBf16(value, bits);
  U16x8 half = __builtin_convertvector(bits, U16x8);
  std::memcpy(to, &half, sizeof(half));
}
STRATA_INLINE void Store(const F32x16& value, Bf16* to) {
  U32x16 bits;
  RoundToBf16(value, bits);
  U16x16 half = __builtin_convertvector(bits, U16x16);
  std::memcpy(to, &half, sizeof(half));
}
// Rounds to T, and stores that as Out: T itself, or the wider float.
template <typename T, typename Out, typename F32>
STRATA_INLINE void StoreRounded(const F32& value, Out* to) {
  if constexpr (sizeof(Out) == sizeof(T)) {
    Store(value, to);
  } else {
    typename Vectors<sizeof(F32) / sizeof(float)>::U32 bits;
    RoundToBf16(value, bits);
    bits <<= 16;
    std::memcpy(to, &bits, sizeof(bits));
  }
}
STRATA_INLINE void Fill(float x, F32x8& out) { out = F32x8{} + x; }
STRATA_INLINE void Fill(float x, F32x16& out) { out = F32x16{} + x; }

// The lanes' sum in one fixed order.
STRATA_INLINE float Sum(const F32x8& v) {
  return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}
STRATA_INLINE float Sum(const F32x16& v) {
  F32x8 half[2];
  std::memcpy(half, &v, sizeof(v));
  half[0] += half[1];
  return Sum(half[0]);
}

// The greatest of the lanes, none of which is NaN.
STRATA_INLINE float Greatest(const F32x8& v) {
  return std::max(std::max(std::max(v[0], v[4]), std::max(v[2], v[6])),
                  std::max(std::max(v[1], v[5]), std::max(v[3], v[7])));
}
STRATA_INLINE float Greatest(const F32x16& v) {
  F32x8 half[2];
  std::memcpy(half, &v, sizeof(v));
  half[0] = half[1] > half[0] ? half[1] : half[0];
  return Greatest(half[0]);
}

// e^x to about 2 ulp for x in [-87, 88]; below -87 it stays at e^-87, above 88 at
// e^88 (Cephes' expf: range reduction by ln 2, a polynomial of degree 5).
template <typename F32>
STRATA_INLINE void Exp(const F32& x, F32& out) {
  using I32 = typename Vectors<sizeof(F32) / sizeof(float)>::I32;
  F32 low, high;
  Fill(-87.0f, low);
  Fill(88.0f, high);
  F32 v = x > low ? x : low;
  v = v < high ? v : high;
  // Adding and taking away 1.5 * 2^23 rounds to the nearest whole number.
  F32 magic;
  Fill(12582912.0f, magic);
  F32 shifted = v * 1.44269504088896341f + magic;
  F32 n = shifted - magic;
  F32 r = v - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  F32 p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  I32 exponent = __builtin_convertvector(n, I32);
  I32 scale_bits = (exponent + 127) << 23;
  F32 scale;
  std::memcpy(&scale, &scale_bits, sizeof(scale));
  out = p * scale;
}

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_SIMD_H_
