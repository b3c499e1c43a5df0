#include "services/verify/engine/bf16_matrix.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "services/verify/engine/kernels.h"
#include "services/verify/engine/parallel.h"

namespace strata::engine {
namespace {

// Products of fewer elements of the weight are not worth a second thread.
constexpr int64_t kGrainElements = 1 << 16;
constexpr int64_t kWidenGrainElements = 1 << 17;

at::Tensor Pack(const at::Tensor& weight, const PanelProduct& product) {
  const int64_t out = weight.size(0);
  const int64_t in = weight.size(1);
  const int64_t panels = product.PanelCount(out);
  const int64_t outputs = product.panel_outputs();
  at::Tensor padded = at::zeros({panels * outputs, in}, weight.options());
  padded.narrow(0, 0, out).copy_(weight);
  return padded.view({panels, 2, outputs / 2, in}).permute({0, 3, 2, 1}).contiguous();
}

}  // namespace

Bf16Matrix::Bf16Matrix(const at::Tensor& weight, const PanelProduct& product)
    : product_(product),
      out_(weight.size(0)),
      in_(weight.size(1)),
      packed_(Pack(weight, product)) {}

at::Tensor Bf16Matrix::Multiply(const at::Tensor& x, const float* bias) const {
  const int64_t rows = x.size(0);
  const at::Tensor wide = at::empty({rows, in_}, x.options().dtype(at::kFloat));
  at::Tensor y = at::empty({rows, out_}, x.options());
  const auto* const from = static_cast<const Bf16*>(x.data_ptr());
  auto* const to = wide.data_ptr<float>();
  ParallelFor(rows, std::max<int64_t>(1, kWidenGrainElements / in_),
              [&](int64_t begin, int64_t end) {
                Widen(from + begin * in_, (end - begin) * in_, to + begin * in_);
              });
  Multiply(to, rows, bias, nullptr, static_cast<Bf16*>(y.data_ptr()));
  return y;
}

const Bf16* Bf16Matrix::FirstOfThread() const {
  return packed() + PartBegin(product_.PanelCount(out_)) * product_.panel_outputs() * in_;
}

void Bf16Matrix::Multiply(const float* x, int64_t rows, const float* bias, const Bf16Matrix* next,
                          Bf16* y) const {
  const PanelProductShape shape{rows, in_, out_};
  ParallelFor(product_.PanelCount(out_),
              std::max<int64_t>(1, kGrainElements / (in_ * product_.panel_outputs())),
              Work::kProducts, [&](int64_t begin, int64_t end) {
                product_.Run(shape, begin, end, x, packed(), bias,
                             next != nullptr ? next->FirstOfThread() : nullptr, y);
              });
}

}  // namespace strata::engine
