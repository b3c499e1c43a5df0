#ifndef STRATA_SERVICES_VERIFY_ENGINE_CUDA_BLOCK_H_
#define STRATA_SERVICES_VERIFY_ENGINE_CUDA_BLOCK_H_

#include <cmath>
#include <cstdint>
#include <cstring>

#include "services/verify/engine/bf16.h"

// How kernels are written here, so that one source runs on a GPU and, for tests, on a CPU.
//
// A kernel is a function of one thread block, and a block's work a sequence of phases:
//
//   block.ForEachThread([&](int t) { … });    // every thread; then the block's barrier
//   block.ForEachWarp([&](int warp, auto& lanes) {
//     lanes.ForEach([&](int lane) { … });     // every lane; then the warp's barrier
//   });                                       // every warp; then the block's barrier
//
// Within a phase a thread must not read what another writes; what goes from phase to phase goes
// through shared memory, or stays with the lane in a Block::PerLane<State>. Code between phases is
// the same for all threads. So there is no way to forget a barrier, and a CPU runs a phase as a
// loop, in any order (tests/engine/cuda_emulation.h).
//
// A Block has, besides the above:
//   kThreads, kWarps       constants
//   x(), y()               its place in the grid
//   shared()               its shared memory, 16-byte aligned, uninitialised
// and its lanes:
//   lanes.CopyAsync(to, from)   starts to copy 16 aligned bytes to shared memory, for this lane
//   lanes.EndGroup()            the copies so far are a group, for this lane
//   lanes.WaitForGroups<N>()    a phase: all but the last N groups of all lanes have arrived
//   lanes.Multiply8x32<B>(a, a_stride, b, b_stride, depth, c, c_stride)
//                               a phase: c = a b, of bf16, added up in fp32. a: 8 rows of `depth`,
//                               a multiple of 16; b: `depth` rows of 32, or with B = true the other
//                               way round; c: 8 rows of 32. In shared memory; rows of a and b begin
//                               at multiples of 16 bytes. An element of c depends on its row of a
//                               and its column of b alone.
#if defined(__CUDACC__)
#define STRATA_DEVICE __device__ __forceinline__
#define STRATA_UNROLL _Pragma("unroll")
#else
#define STRATA_DEVICE inline
#define STRATA_UNROLL
#endif

namespace strata::engine::cuda {

inline constexpr int kWarpLanes = 32;

// N neighbours, read and written at once; `from` and `to` are aligned to all of them.
template <typename T, int N>
struct alignas(N * sizeof(T)) Pack {
  T items[N];
};
template <int N, typename T>
STRATA_DEVICE Pack<T, N> LoadPack(const T* from) {
#if defined(__CUDACC__)
  return *reinterpret_cast<const Pack<T, N>*>(from);
#else
  Pack<T, N> pack;
  memcpy(&pack, from, sizeof(pack));
  return pack;
#endif
}
template <int N, typename T>
STRATA_DEVICE void StorePack(const Pack<T, N>& pack, T* to) {
#if defined(__CUDACC__)
  *reinterpret_cast<Pack<T, N>*>(to) = pack;
#else
  memcpy(to, &pack, sizeof(pack));
#endif
}

// Four of them, widened.
template <typename T>
STRATA_DEVICE void Load4(const T* from, float (&to)[4]) {
  const Pack<T, 4> pack = LoadPack<4>(from);
  STRATA_UNROLL
  for (int i = 0; i < 4; ++i) to[i] = ToFloat(pack.items[i]);
}
template <typename T>
STRATA_DEVICE void Store4(const float (&from)[4], T* to) {
  Pack<T, 4> pack;
  STRATA_UNROLL
  for (int i = 0; i < 4; ++i) FromFloat(from[i], pack.items[i]);
  StorePack(pack, to);
}

// a * b + c rounded once, and a + b rounded, whatever a compiler would make of the two.
STRATA_DEVICE float MulAdd(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#else
  return fmaf(a, b, c);
#endif
}
STRATA_DEVICE float Add(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fadd_rn(a, b);
#else
  return a + b;
#endif
}

}  // namespace strata::engine::cuda

#endif  // STRATA_SERVICES_VERIFY_ENGINE_CUDA_BLOCK_H_
