#ifndef STRATA_SERVICES_VERIFY_ENGINE_BF16_MATRIX_H_
#define STRATA_SERVICES_VERIFY_ENGINE_BF16_MATRIX_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <type_traits>
#include <variant>
#include <vector>

#include "services/verify/engine/amx_product.h"
#include "services/verify/engine/panel_product.h"

namespace strata::engine {

// The ways that CPUs have to multiply rows with a bf16 weight.
using Bf16Product = std::variant<PanelProduct, AmxProduct>;
// The fastest on this CPU.
Bf16Product BestBf16Product();
// Those that this CPU can run.
std::vector<Bf16Product> AllBf16Products();

// A bf16 weight and its product with rows. Sums are in fp32, each in the order of the inputs: a
// row's result is the same however many rows run beside it, one alone included.
//
// For CPUs on which oneDNN has no product in bf16 (x86-64 without AVX-512 and AVX-NE-CONVERT), a
// slower one, or one that is not row-invariant (AMX), see PackedLinear.
//
// Measured on two cores, all linear layers of SmolLM2-135M, ms at 1 / 8 / 16 / 64 rows. EPYC 7003
// (Zen 3, AVX2): this 14 / 24 / 36 / 130; FBGEMM with the weights in fp16 14 / 31 / 41 / 152;
// oneDNN with the weights in fp32 35 / 52 / 70 / 174; at::linear in bf16 19 / 130 / 257 / 912. Xeon
// of 2023 without AMX, whole passes: this 10.6 / 16.9 / 26 / 98; oneDNN with AVX512-BF16 18 / 29 /
// 46 / 147. With AMX: this 10.5 / 12.6 / 15.2 / 33; oneDNN, in pairs of rows for the shapes that
// are not row-invariant otherwise, 41 / 51 / 86 / 292.
class Bf16Matrix {
 public:
  // weight: bf16 [out, in]. gated: its first half are gates, and results are silu(gate) * up,
  // out / 2 of a row; out is a multiple of 32.
  explicit Bf16Matrix(const at::Tensor& weight, const Bf16Product& product = BestBf16Product(),
                      bool gated = false);

  // x: bf16 [rows, in], contiguous; bias: fp32 [out] or null. Returns bf16 [rows, out], or
  // [rows, out / 2] if gated.
  at::Tensor Multiply(const at::Tensor& x, const float* bias) const;

  // Whether Row, Bf16 or float, is the type of rows that the product computes with.
  template <typename Row>
  bool takes() const {
    return std::holds_alternative<ProductOf<Row>>(product_);
  }
  // The same of rows of the type that it takes, into y: [rows, out]. May be called within
  // RunTogether, where each thread begins to fetch its part of `next`, or null.
  template <typename Row>
  void Multiply(const Row* x, int64_t rows, const float* bias, const Bf16Matrix* next,
                Bf16* y) const;
  // The same of a gated one. y: [rows, out / 2], of bf16 whatever the type.
  template <typename Row>
  void MultiplyGated(const Row* x, int64_t rows, const float* bias, const Bf16Matrix* next,
                     Row* y) const;

 private:
  template <typename Row>
  using ProductOf =
      std::conditional_t<std::is_same_v<Row, PanelProduct::Row>, PanelProduct, AmxProduct>;

  // at::Tensor's Multiply with rows of this type.
  template <typename Row>
  at::Tensor MultiplyAs(const at::Tensor& x, const float* bias) const;
  // Calls run(product, begin, end, after) for each thread's panels; after: what it reads next.
  template <typename Row, typename Run>
  void RunPanels(const Bf16Matrix* next, const Run& run) const;
  // What the calling thread reads first, within RunTogether.
  const Bf16* FirstOfThread() const;

  const Bf16Product product_;
  const bool gated_;
  const int64_t out_;
  const int64_t in_;
  const int64_t panels_;
  const at::Tensor packed_;  // as product_ wants it
  const int64_t panel_weights_;
  const Bf16* const weights_;
};

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_BF16_MATRIX_H_
