#include "services/verify/engine/bf16_matrix.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "services/verify/engine/amx.h"
#include "services/verify/engine/kernels.h"
#include "services/verify/engine/parallel.h"

namespace strata::engine {
namespace {

// Products of fewer elements of the weight are not worth a second thread.
constexpr int64_t kGrainElements = 1 << 16;
constexpr int64_t kWidenGrainElements = 1 << 17;

// [panels * outputs, inputs], zeros behind the weight's last.
at::Tensor Pad(const at::Tensor& weight, int64_t outputs, int64_t inputs) {
  at::Tensor padded = at::zeros({outputs, inputs}, weight.options());
  padded.narrow(0, 0, weight.size(0)).narrow(1, 0, weight.size(1)).copy_(weight);
  return padded;
}

at::Tensor Pack(const at::Tensor& weight, const PanelProduct& product) {
  const int64_t in = weight.size(1);
  const int64_t panels = product.PanelCount(weight.size(0));
  const int64_t outputs = product.panel_outputs();
  return Pad(weight, panels * outputs, in)
      .view({panels, 2, outputs / 2, in})
      .permute({0, 3, 2, 1})
      .contiguous();
}

at::Tensor Pack(const at::Tensor& weight, const AmxProduct& product) {
  const int64_t panels = product.PanelCount(weight.size(0));
  const int64_t outputs = product.panel_outputs();
  const int64_t inputs = product.kBlockInputs;
  const int64_t blocks = (weight.size(1) + inputs - 1) / inputs;
  return Pad(weight, panels * outputs, blocks * inputs)
      .view({panels, 2, outputs / 2, blocks, inputs / 2, 2})
      .permute({0, 3, 1, 4, 2, 5})
      .contiguous();
}

}  // namespace

Bf16Product BestBf16Product() {
  if (AmxIsUsable()) return AmxProduct();
  return PanelProduct::Best();
}

std::vector<Bf16Product> AllBf16Products() {
  const std::vector<PanelProduct> panels = PanelProduct::All();
  std::vector<Bf16Product> all(panels.begin(), panels.end());
  if (AmxIsUsable()) all.emplace_back(AmxProduct());
  return all;
}

Bf16Matrix::Bf16Matrix(const at::Tensor& weight, const Bf16Product& product)
    : product_(product),
      out_(weight.size(0)),
      in_(weight.size(1)),
      panels_(std::visit([&](const auto& way) { return way.PanelCount(out_); }, product)),
      packed_(std::visit([&](const auto& way) { return Pack(weight, way); }, product)),
      panel_weights_(packed_.numel() / panels_),
      weights_(static_cast<const Bf16*>(packed_.const_data_ptr())) {}

at::Tensor Bf16Matrix::Multiply(const at::Tensor& x, const float* bias) const {
  const int64_t rows = x.size(0);
  at::Tensor y = at::empty({rows, out_}, x.options());
  const auto* const from = static_cast<const Bf16*>(x.data_ptr());
  auto* const to = static_cast<Bf16*>(y.data_ptr());
  if (takes<Bf16>()) {
    Multiply(from, rows, bias, nullptr, to);
    return y;
  }
  const at::Tensor wide = at::empty({rows, in_}, x.options().dtype(at::kFloat));
  auto* const widened = wide.data_ptr<float>();
  ParallelFor(rows, std::max<int64_t>(1, kWidenGrainElements / in_),
              [&](int64_t begin, int64_t end) {
                Widen(from + begin * in_, (end - begin) * in_, widened + begin * in_);
              });
  Multiply(widened, rows, bias, nullptr, to);
  return y;
}

const Bf16* Bf16Matrix::FirstOfThread() const {
  return weights_ + PartBegin(panels_) * panel_weights_;
}

template <typename Row>
void Bf16Matrix::Multiply(const Row* x, int64_t rows, const float* bias, const Bf16Matrix* next,
                          Bf16* y) const {
  const auto& product = std::get<ProductOf<Row>>(product_);
  const ProductShape shape{rows, in_, out_};
  ParallelFor(panels_, std::max<int64_t>(1, kGrainElements / panel_weights_), Work::kProducts,
              [&](int64_t begin, int64_t end) {
                product.Run(shape, begin, end, x, weights_, bias,
                            next != nullptr ? next->FirstOfThread() : nullptr, y);
              });
}

template void Bf16Matrix::Multiply(const float*, int64_t, const float*, const Bf16Matrix*,
                                   Bf16*) const;
template void Bf16Matrix::Multiply(const Bf16*, int64_t, const float*, const Bf16Matrix*,
                                   Bf16*) const;

}  // namespace strata::engine
