#include "services/verify/engine/kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "services/verify/engine/parallel.h"
#include "services/verify/engine/silu.h"

namespace strata::engine {
namespace {

// Elements below which a second thread costs more than it saves.
constexpr int64_t kGrainElements = 1 << 15;

// For a loop over what another thread has just written, from whose cache it comes: fetches what the
// loop reads a kilobyte on, be that behind the end.
template <typename T>
STRATA_INLINE void FetchAhead(const T* at) {
  __builtin_prefetch(reinterpret_cast<const char*>(at) + 1024);
}

int64_t RowGrain(int64_t width) { return std::max<int64_t>(1, kGrainElements / width); }

template <int kWidth, typename T, typename Out>
STRATA_INLINE void AddRmsNormRows(const T* delta, const float* weight, float eps, int64_t begin,
                                  int64_t end, int64_t width, float* residual, Out* out) {
  using F32 = typename Vectors<kWidth>::F32;
  for (int64_t r = begin; r < end; ++r) {
    float* h = residual + r * width;
    F32 squares{};
    for (int64_t i = 0; i < width; i += kWidth) {
      F32 x;
      Load(h + i, x);
      if (delta != nullptr) {
        FetchAhead(delta + r * width + i);
        F32 d;
        Load(delta + r * width + i, d);
        x += d;
        Store(x, h + i);
      }
      squares += x * x;
    }
    const float scale = 1.0f / std::sqrt(Sum(squares) / static_cast<float>(width) + eps);
    for (int64_t i = 0; i < width; i += kWidth) {
      F32 x, w;
      Load(h + i, x);
      Load(weight + i, w);
      x = x * scale * w;
      StoreRounded<T>(x, out + r * width + i);
    }
  }
}

STRATA_CLONES void AddRmsNormRange(const float* delta, const float* weight, float eps,
                                   int64_t begin, int64_t end, int64_t width, float* residual,
                                   float* out) {
  AddRmsNormRows<kLanes>(delta, weight, eps, begin, end, width, residual, out);
}
STRATA_CLONES void AddRmsNormRange(const Bf16* delta, const float* weight, float eps, int64_t begin,
                                   int64_t end, int64_t width, float* residual, Bf16* out) {
  AddRmsNormRows<kLanes>(delta, weight, eps, begin, end, width, residual, out);
}
STRATA_CLONES void AddRmsNormRange(const Bf16* delta, const float* weight, float eps, int64_t begin,
                                   int64_t end, int64_t width, float* residual, float* out) {
  AddRmsNormRows<kLanes>(delta, weight, eps, begin, end, width, residual, out);
}

#if defined(__x86_64__)
template <typename T, typename Out>
STRATA_AVX512 void AddRmsNormAvx512(const T* delta, const float* weight, float eps, int64_t begin,
                                    int64_t end, int64_t width, float* residual, Out* out) {
  AddRmsNormRows<16>(delta, weight, eps, begin, end, width, residual, out);
}
#endif

template <typename T, typename Out>
void AddRmsNormBest(const T* delta, const float* weight, float eps, int64_t begin, int64_t end,
                    int64_t width, float* residual, Out* out) {
#if defined(__x86_64__)
  if (HasAvx512()) {
    AddRmsNormAvx512(delta, weight, eps, begin, end, width, residual, out);
    return;
  }
#endif
  AddRmsNormRange(delta, weight, eps, begin, end, width, residual, out);
}

template <int kWidth, typename T, typename Out>
STRATA_INLINE void SiluMultiplyRows(const T* gate_up, int64_t begin, int64_t end, int64_t width,
                                    Out* out) {
  for (int64_t r = begin; r < end; ++r) {
    const T* gate = gate_up + r * 2 * width;
    const T* up = gate + width;
    for (int64_t i = 0; i < width; i += kWidth) {
      typename Vectors<kWidth>::F32 g, u, y;
      FetchAhead(gate + i);
      FetchAhead(up + i);
      Load(gate + i, g);
      Load(up + i, u);
      SiluTimes(g, u, y);
      StoreRounded<T>(y, out + r * width + i);
    }
  }
}

STRATA_CLONES void SiluMultiplyRange(const float* gate_up, int64_t begin, int64_t end,
                                     int64_t width, float* out) {
  SiluMultiplyRows<kLanes>(gate_up, begin, end, width, out);
}
STRATA_CLONES void SiluMultiplyRange(const Bf16* gate_up, int64_t begin, int64_t end, int64_t width,
                                     Bf16* out) {
  SiluMultiplyRows<kLanes>(gate_up, begin, end, width, out);
}
STRATA_CLONES void SiluMultiplyRange(const Bf16* gate_up, int64_t begin, int64_t end, int64_t width,
                                     float* out) {
  SiluMultiplyRows<kLanes>(gate_up, begin, end, width, out);
}

#if defined(__x86_64__)
template <typename T, typename Out>
STRATA_AVX512 void SiluMultiplyAvx512(const T* gate_up, int64_t begin, int64_t end, int64_t width,
                                      Out* out) {
  SiluMultiplyRows<16>(gate_up, begin, end, width, out);
}
#endif

template <int kWidth, typename T, typename Out>
STRATA_INLINE void RotateInVectors(const float* cosine, const float* sine, int64_t dim, float scale,
                                   const T* x, Out* out) {
  const int64_t half = dim / 2;
  using F32 = typename Vectors<kWidth>::F32;
  for (int64_t i = 0; i < half; i += kWidth) {
    F32 a, b, c, s;
    Load(x + i, a);
    Load(x + half + i, b);
    Load(cosine + i, c);
    Load(sine + i, s);
    const F32 low = (a * c - b * s) * scale;
    const F32 high = (b * c + a * s) * scale;
    Store(low, out + i);
    Store(high, out + half + i);
  }
}

STRATA_CLONES void RotateHead(const float* cosine, const float* sine, int64_t dim, float scale,
                              const float* x, float* out) {
  RotateInVectors<kLanes>(cosine, sine, dim, scale, x, out);
}
STRATA_CLONES void RotateHead(const float* cosine, const float* sine, int64_t dim, float scale,
                              const Bf16* x, float* out) {
  RotateInVectors<kLanes>(cosine, sine, dim, scale, x, out);
}
STRATA_CLONES void RotateHead(const float* cosine, const float* sine, int64_t dim, float scale,
                              const Bf16* x, Bf16* out) {
  RotateInVectors<kLanes>(cosine, sine, dim, scale, x, out);
}

#if defined(__x86_64__)
template <typename T, typename Out>
STRATA_AVX512 void RotateHeadAvx512(const float* cosine, const float* sine, int64_t dim,
                                    float scale, const T* x, Out* out) {
  RotateInVectors<16>(cosine, sine, dim, scale, x, out);
}
#endif

STRATA_CLONES void WidenBf16(const Bf16* from, int64_t count, float* to) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    FetchAhead(from + i);
    F32x8 x;
    Load(from + i, x);
    Store(x, to + i);
  }
  for (; i < count; ++i) to[i] = ToFloat(from[i]);
}

template <typename T>
STRATA_INLINE void QuantizeEachRow(const T* x, int64_t begin, int64_t end, int64_t width,
                                   uint8_t* out, float* scales) {
  // Adding and taking away 1.5 * 2^23 rounds to the nearest whole number.
  constexpr float kMagic = 12582912.0f;
  for (int64_t r = begin; r < end; ++r) {
    const T* row = x + r * width;
    F32x8 greatest{};
    for (int64_t i = 0; i < width; i += kLanes) {
      F32x8 v;
      Load(row + i, v);
      const F32x8 magnitude = v < F32x8{} ? -v : v;
      greatest = magnitude > greatest ? magnitude : greatest;
    }
    const float most = Greatest(greatest);
    scales[r] = most / 127.0f;
    const float inverse = most > 0 ? 127.0f / most : 0.0f;
    for (int64_t i = 0; i < width; i += kLanes) {
      F32x8 v;
      Load(row + i, v);
      v = (v * inverse + kMagic) - kMagic;
      const I32x8 whole = __builtin_convertvector(v, I32x8) + 128;
      using U8x8 = uint8_t __attribute__((vector_size(8)));
      const U8x8 bytes = __builtin_convertvector(whole, U8x8);
      std::memcpy(out + r * width + i, &bytes, sizeof(bytes));
    }
  }
}

STRATA_CLONES void QuantizeRange(const float* x, int64_t begin, int64_t end, int64_t width,
                                 uint8_t* out, float* scales) {
  QuantizeEachRow(x, begin, end, width, out, scales);
}
STRATA_CLONES void QuantizeRange(const Bf16* x, int64_t begin, int64_t end, int64_t width,
                                 uint8_t* out, float* scales) {
  QuantizeEachRow(x, begin, end, width, out, scales);
}

template <typename T>
STRATA_INLINE void ScaleEachRow(const float* sums, const float* scales, const float* bias,
                                int64_t begin, int64_t end, int64_t width, T* out) {
  for (int64_t r = begin; r < end; ++r) {
    const float* from = sums + r * width;
    T* to = out + r * width;
    const float scale = scales[r];
    int64_t i = 0;
    for (; i + kLanes <= width; i += kLanes) {
      F32x8 v, b{};
      Load(from + i, v);
      if (bias != nullptr) Load(bias + i, b);
      v = v * scale + b;
      Store(v, to + i);
    }
    for (; i < width; ++i) FromFloat(from[i] * scale + (bias != nullptr ? bias[i] : 0), to[i]);
  }
}

STRATA_CLONES void ScaleRange(const float* sums, const float* scales, const float* bias,
                              int64_t begin, int64_t end, int64_t width, float* out) {
  ScaleEachRow(sums, scales, bias, begin, end, width, out);
}
STRATA_CLONES void ScaleRange(const float* sums, const float* scales, const float* bias,
                              int64_t begin, int64_t end, int64_t width, Bf16* out) {
  ScaleEachRow(sums, scales, bias, begin, end, width, out);
}

}  // namespace

template <typename T, typename Out>
void AddRmsNorm(const T* delta, const float* weight, float eps, int64_t rows, int64_t width,
                float* residual, Out* out) {
  ParallelFor(rows, RowGrain(width), [&](int64_t begin, int64_t end) {
    AddRmsNormBest(delta, weight, eps, begin, end, width, residual, out);
  });
}

template <typename T, typename Out>
void AddRmsNormRow(const T* delta, const float* weight, float eps, int64_t width, float* residual,
                   Out* out) {
  AddRmsNormBest(delta, weight, eps, 0, 1, width, residual, out);
}

template <typename T, typename Out>
void SiluMultiply(const T* gate_up, int64_t rows, int64_t width, Out* out) {
  ParallelFor(rows, RowGrain(width), [&](int64_t begin, int64_t end) {
#if defined(__x86_64__)
    if (HasAvx512()) {
      SiluMultiplyAvx512(gate_up, begin, end, width, out);
      return;
    }
#endif
    SiluMultiplyRange(gate_up, begin, end, width, out);
  });
}

template <typename T, typename Out>
void RotateHalves(const float* cosine, const float* sine, int64_t dim, float scale, const T* x,
                  Out* out) {
#if defined(__x86_64__)
  if (HasAvx512() && dim % 32 == 0) {
    RotateHeadAvx512(cosine, sine, dim, scale, x, out);
    return;
  }
#endif
  RotateHead(cosine, sine, dim, scale, x, out);
}

template <typename T>
void Widen(const T* from, int64_t count, float* to) {
  if constexpr (sizeof(T) == sizeof(float)) {
    std::memcpy(to, from, count * sizeof(float));
  } else {
    WidenBf16(from, count, to);
  }
}

template <typename T>
void QuantizeRows(const T* x, int64_t rows, int64_t width, uint8_t* out, float* scales) {
  ParallelFor(rows, RowGrain(width), [&](int64_t begin, int64_t end) {
    QuantizeRange(x, begin, end, width, out, scales);
  });
}

template <typename T>
void ScaleRows(const float* sums, const float* scales, const float* bias, int64_t rows,
               int64_t width, T* out) {
  ParallelFor(rows, RowGrain(width), [&](int64_t begin, int64_t end) {
    ScaleRange(sums, scales, bias, begin, end, width, out);
  });
}

template void QuantizeRows(const float*, int64_t, int64_t, uint8_t*, float*);
template void QuantizeRows(const Bf16*, int64_t, int64_t, uint8_t*, float*);
template void ScaleRows(const float*, const float*, const float*, int64_t, int64_t, float*);
template void ScaleRows(const float*, const float*, const float*, int64_t, int64_t, Bf16*);
template void AddRmsNorm(const float*, const float*, float, int64_t, int64_t, float*, float*);
template void AddRmsNorm(const Bf16*, const float*, float, int64_t, int64_t, float*, Bf16*);
template void AddRmsNorm(const Bf16*, const float*, float, int64_t, int64_t, float*, float*);
template void AddRmsNormRow(const float*, const float*, float, int64_t, float*, float*);
template void AddRmsNormRow(const Bf16*, const float*, float, int64_t, float*, Bf16*);
template void AddRmsNormRow(const Bf16*, const float*, float, int64_t, float*, float*);
template void SiluMultiply(const float*, int64_t, int64_t, float*);
template void SiluMultiply(const Bf16*, int64_t, int64_t, Bf16*);
template void SiluMultiply(const Bf16*, int64_t, int64_t, float*);
template void RotateHalves(const float*, const float*, int64_t, float, const float*, float*);
template void RotateHalves(const float*, const float*, int64_t, float, const Bf16*, float*);
template void RotateHalves(const float*, const float*, int64_t, float, const Bf16*, Bf16*);
template void Widen(const float*, int64_t, float*);
template void Widen(const Bf16*, int64_t, float*);

}  // namespace strata::engine
