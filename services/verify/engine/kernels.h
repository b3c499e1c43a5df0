#ifndef STRATA_SERVICES_VERIFY_ENGINE_KERNELS_H_
#define STRATA_SERVICES_VERIFY_ENGINE_KERNELS_H_

#include <cstdint>

#include "services/verify/engine/simd.h"

// The element-wise work of a layer. Each row is computed alone, in a fixed order,
// whatever the number of rows. T is the activations' type, float or Bf16; the
// residual stream is fp32. Row lengths are multiples of 16. Out, where results are rounded to T, is
// T or float: a product that computes in fp32 takes its rows so, and nobody has to widen them.
namespace strata::engine {

// residual[r] += delta[r] (skipped if delta is null); out[r] = RmsNorm(residual[r]) * weight.
// residual: [rows, width]; delta, out: [rows, width].
template <typename T, typename Out>
void AddRmsNorm(const T* delta, const float* weight, float eps, int64_t rows, int64_t width,
                float* residual, Out* out);

// The same of one row, on the calling thread.
template <typename T, typename Out>
void AddRmsNormRow(const T* delta, const float* weight, float eps, int64_t width, float* residual,
                   Out* out);

// gate_up: [rows, 2 * width], gate first. out[r] = silu(gate) * up: [rows, width].
template <typename T, typename Out>
void SiluMultiply(const T* gate_up, int64_t rows, int64_t width, Out* out);

// Rotates one head, halves convention: x[i], x[i + dim / 2] are a pair. out = the rotated x times
// scale. cosine, sine: [dim / 2] of the row's position; x, out: [dim]. Out: float or T.
template <typename T, typename Out>
void RotateHalves(const float* cosine, const float* sine, int64_t dim, float scale, const T* x,
                  Out* out);

// Widens `count` elements to fp32.
template <typename T>
void Widen(const T* from, int64_t count, float* to);

// Rounds each row to whole numbers of its own scale, greatest magnitude / 127, and adds 128.
// x, out: [rows, width]; scales: [rows].
template <typename T>
void QuantizeRows(const T* x, int64_t rows, int64_t width, uint8_t* out, float* scales);

// out[r] = sums[r] * scales[r] + bias. sums, out: [rows, width], of any width; scales: [rows];
// bias: [width] or null.
template <typename T>
void ScaleRows(const float* sums, const float* scales, const float* bias, int64_t rows,
               int64_t width, T* out);

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_KERNELS_H_
