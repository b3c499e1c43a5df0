#ifndef STRATA_SERVICES_VERIFY_ENGINE_QUANTIZED_MATRIX_H_
#define STRATA_SERVICES_VERIFY_ENGINE_QUANTIZED_MATRIX_H_

#include <ATen/core/Tensor.h>

namespace strata::engine {

// A weight in 8 bits a value (7 on CPUs without AVX-512 VNNI, where it is not fast either):
// symmetric, one scale for each output, packed once for oneDNN. Rows of activations are rounded to
// 8 bits too, with a scale of their own each, as they come (LLM.int8(), arXiv 2208.07339,
// section 2.1, without its outliers apart).
//
// The sums are of whole numbers, so they do not depend on their order: a row's result is the same
// however many rows run beside it.
class QuantizedMatrix {
 public:
  // weight: [out, in], `in` a multiple of 16. Throws c10::Error where oneDNN has no such product.
  explicit QuantizedMatrix(const at::Tensor& weight);

  // x: [rows, in], contiguous, bf16 or fp32; bias: fp32 [out] or null.
  // Returns [rows, out] in the type of x.
  at::Tensor Multiply(const at::Tensor& x, const float* bias) const;

 private:
  at::Tensor packed_;
  at::Tensor scales_;  // fp32 [out]
  at::Tensor zero_points_;
};

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_QUANTIZED_MATRIX_H_
