#ifndef STRATA_SERVICES_VERIFY_ENGINE_LINEAR_H_
#define STRATA_SERVICES_VERIFY_ENGINE_LINEAR_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "services/verify/engine/bf16_matrix.h"
#include "services/verify/engine/quantized_matrix.h"

namespace strata::engine {

// How the weights of linear layers are held: in the activations' type, or in 8 bits.
enum class WeightType { kNative, kInt8 };

// What is done with a linear layer's result.
enum class Activation {
  kNone,
  // Half of it are gates, which come first: silu(gate) * up is left, half as wide.
  kSiluGate,
};

// y = x W^T + b, and what follows, with the weight packed once: for Bf16Matrix if it is in bf16,
// but where oneDNN's product is the faster one (AMD's AVX512-BF16), else for oneDNN.
//
// Row invariance: oneDNN's vector products give a row the same bits for every number of rows from
// two up, but one row alone may take another path (a matrix-vector product). Callers therefore pass
// at least least_rows(); many rows are computed in blocks. CheckRowInvariance tries this on the
// machine at hand; where it does not hold (oneDNN's products on AMX, of some shapes), UsePairs()
// makes it hold by construction.
class PackedLinear {
 public:
  // weight: [out, in]; bias: [out] or undefined. Both in the rows' type. With kSiluGate `out` is a
  // multiple of 32.
  PackedLinear(const at::Tensor& weight, const at::Tensor& bias, WeightType type,
               Activation activation = Activation::kNone);

  // Fewer rows cost as much as so many, or more.
  int64_t least_rows() const;
  // x: [rows >= least_rows(), in], contiguous. Returns [rows, width()].
  at::Tensor Forward(const at::Tensor& x) const;

  // Whether ForwardTogether may be called with rows of this type, Bf16 or float: oneDNN starts
  // threads of its own.
  template <typename Row>
  bool runs_together() const {
    return bf16_ && bf16_->takes<Row>() && !pairs_;
  }
  // Forward within RunTogether. x: [rows, in], bf16 or bf16 in fp32; y: [rows, width()], bf16, or
  // as x with kSiluGate; next: the layer whose weights will be read next, to begin with.
  template <typename Row>
  void ForwardTogether(const Row* x, int64_t rows, const PackedLinear& next, Bf16* y) const {
    bf16_->Multiply(x, rows, bias(), &*next.bf16_, y);
  }
  template <typename Row>
  void ForwardGatedTogether(const Row* x, int64_t rows, const PackedLinear& next, Row* y) const {
    bf16_->MultiplyGated(x, rows, bias(), &*next.bf16_, y);
  }

  // Runs random rows in many groupings and compares every bit.
  bool CheckRowInvariance() const;
  // From now on rows are computed two at a time.
  void UsePairs() { pairs_ = true; }

  int64_t in_features() const { return in_; }
  int64_t out_features() const { return out_; }
  // Of a row of what Forward returns.
  int64_t width() const { return activation_ == Activation::kNone ? out_ : out_ / 2; }

 private:
  at::Tensor Run(const at::Tensor& x) const;
  at::Tensor Activated(const at::Tensor& gate_up) const;
  // Or null. Not beside packed_.
  const float* bias() const { return bias_ ? bias_->const_data_ptr<float>() : nullptr; }

  const int64_t in_;
  const int64_t out_;
  const at::ScalarType type_;
  const Activation activation_;
  // One of the three.
  at::Tensor packed_;
  std::optional<QuantizedMatrix> quantized_;
  std::optional<Bf16Matrix> bf16_;
  // Of type_ beside packed_, else fp32.
  std::optional<at::Tensor> bias_;
  bool pairs_ = false;
};

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_LINEAR_H_
