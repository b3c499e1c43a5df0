#ifndef STRATA_SERVICES_VERIFY_ENGINE_LINEAR_H_
#define STRATA_SERVICES_VERIFY_ENGINE_LINEAR_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "services/verify/engine/quantized_matrix.h"

namespace strata::engine {

// How the weights of linear layers are held: in the activations' type, or in 8 bits.
enum class WeightType { kNative, kInt8 };

// y = x W^T + b with the weight packed once for oneDNN.
//
// Row invariance: oneDNN gives a row the same bits for every number of rows from
// two up, but one row alone may take another path (a matrix-vector product). Callers therefore pass
// at least two rows, or better kLeastRows; many rows are computed in blocks. CheckRowInvariance
// tries this on the machine at hand; if it does not hold, UsePairs() makes it hold by construction.
class PackedLinear {
 public:
  // Fewer rows cost more than so many: oneDNN has a slower path for two and three (SmolLM2, a step
  // of two rows 16.3 ms, of four 14.9; Qwen2.5-Coder-0.5B 47 and 37).
  static constexpr int64_t kLeastRows = 4;

  // weight: [out, in]; bias: [out] or undefined. Both in the activations' type.
  PackedLinear(const at::Tensor& weight, const at::Tensor& bias, WeightType type);

  // x: [rows >= 2, in], contiguous. Returns [rows, out].
  at::Tensor Forward(const at::Tensor& x) const;

  // Runs random rows in many groupings and compares every bit.
  bool CheckRowInvariance() const;
  // From now on rows are computed two at a time.
  void UsePairs() { pairs_ = true; }

  int64_t in_features() const { return in_; }
  int64_t out_features() const { return out_; }

 private:
  at::Tensor Run(const at::Tensor& x) const;

  const int64_t in_;
  const int64_t out_;
  const at::ScalarType type_;
  // One of the two.
  at::Tensor packed_;
  std::optional<QuantizedMatrix> quantized_;
  // fp32 beside quantized_, else of type_.
  std::optional<at::Tensor> bias_;
  bool pairs_ = false;
};

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_LINEAR_H_
