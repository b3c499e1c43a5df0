#ifndef STRATA_SERVICES_VERIFY_ENGINE_BF16_MATRIX_H_
#define STRATA_SERVICES_VERIFY_ENGINE_BF16_MATRIX_H_

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "services/verify/engine/panel_product.h"

namespace strata::engine {

// A bf16 weight and its product with few rows, for CPUs on which oneDNN has no product in bf16
// (x86-64 without AVX-512 and AVX-NE-CONVERT) or a slower one (PackedLinear). Sums are in fp32,
// each in the order of the inputs: a row's result is the same however many rows run beside it, one
// alone included.
//
// Measured on two cores, all linear layers of SmolLM2-135M, ms at 1 / 8 / 16 / 64 rows. EPYC 7003
// (Zen 3, AVX2): this 14 / 24 / 36 / 130; FBGEMM with the weights in fp16 14 / 31 / 41 / 152;
// oneDNN with the weights in fp32 35 / 52 / 70 / 174; at::linear in bf16 19 / 130 / 257 / 912. Xeon
// of 2023 without AMX, whole passes: this 10.6 / 16.9 / 26 / 98; oneDNN with AVX512-BF16 18 / 29 /
// 46 / 147.
class Bf16Matrix {
 public:
  // weight: bf16 [out, in].
  explicit Bf16Matrix(const at::Tensor& weight, const PanelProduct& product = PanelProduct::Best());

  // x: bf16 [rows, in], contiguous; bias: fp32 [out] or null. Returns bf16 [rows, out].
  at::Tensor Multiply(const at::Tensor& x, const float* bias) const;
  // The same of rows that are wide already, into y: [rows, out]. May be called within RunTogether,
  // where each thread begins to fetch its part of `next`, or null.
  void Multiply(const float* x, int64_t rows, const float* bias, const Bf16Matrix* next,
                Bf16* y) const;

 private:
  const Bf16* packed() const { return static_cast<const Bf16*>(packed_.const_data_ptr()); }
  // What the calling thread reads first, within RunTogether.
  const Bf16* FirstOfThread() const;

  const PanelProduct product_;
  const int64_t out_;
  const int64_t in_;
  at::Tensor packed_;  // as product_ wants it
};

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_BF16_MATRIX_H_
