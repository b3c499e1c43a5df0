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
  if (weight.size(0) == outputs && weight.size(1) == inputs) return weight.contiguous();
  at::Tensor padded = at::zeros({outputs, inputs}, weight.options());
  padded.narrow(0, 0, weight.size(0)).narrow(1, 0, weight.size(1)).copy_(weight);
  return padded;
}

// [panels, 2, outputs / 2, in]. Of a gated weight one half of a panel is of gates and the other of
// what they are for. No copy: those that are freed again leave holes between the packed weights.
at::Tensor InPanels(const at::Tensor& weight, int64_t outputs, bool gated) {
  const int64_t in = weight.size(1);
  if (gated) return weight.view({2, -1, outputs / 2, in}).transpose(0, 1);
  return weight.view({-1, 2, outputs / 2, in});
}

at::Tensor Pack(const at::Tensor& weight, const PanelProduct& product, bool gated) {
  const int64_t outputs = product.panel_outputs();
  const int64_t panels = product.PanelCount(weight.size(0));
  return InPanels(Pad(weight, panels * outputs, weight.size(1)), outputs, gated)
      .permute({0, 3, 2, 1})
      .contiguous();
}

at::Tensor Pack(const at::Tensor& weight, const AmxProduct& product, bool gated) {
  const int64_t outputs = product.panel_outputs();
  const int64_t panels = product.PanelCount(weight.size(0));
  const int64_t inputs = product.kBlockInputs;
  const int64_t blocks = (weight.size(1) + inputs - 1) / inputs;
  return InPanels(Pad(weight, panels * outputs, blocks * inputs), outputs, gated)
      .unflatten(-1, {blocks, inputs / 2, 2})
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

Bf16Matrix::Bf16Matrix(const at::Tensor& weight, const Bf16Product& product, bool gated)
    : product_(product),
      gated_(gated),
      out_(weight.size(0)),
      in_(weight.size(1)),
      panels_(std::visit([&](const auto& way) { return way.PanelCount(out_); }, product)),
      packed_(std::visit([&](const auto& way) { return Pack(weight, way, gated); }, product)),
      panel_weights_(packed_.numel() / panels_),
      weights_(static_cast<const Bf16*>(packed_.const_data_ptr())) {}

at::Tensor Bf16Matrix::Multiply(const at::Tensor& x, const float* bias) const {
  if (takes<Bf16>()) return MultiplyAs<Bf16>(x, bias);
  const int64_t rows = x.size(0);
  const auto* const from = static_cast<const Bf16*>(x.data_ptr());
  const at::Tensor wide = at::empty({rows, in_}, x.options().dtype(at::kFloat));
  auto* const widened = wide.data_ptr<float>();
  ParallelFor(rows, std::max<int64_t>(1, kWidenGrainElements / in_),
              [&](int64_t begin, int64_t end) {
                Widen(from + begin * in_, (end - begin) * in_, widened + begin * in_);
              });
  return MultiplyAs<float>(wide, bias);
}

template <typename Row>
at::Tensor Bf16Matrix::MultiplyAs(const at::Tensor& x, const float* bias) const {
  const int64_t rows = x.size(0);
  const auto* const from = static_cast<const Row*>(x.const_data_ptr());
  if (gated_) {
    at::Tensor y = at::empty({rows, out_ / 2}, x.options());
    MultiplyGated(from, rows, bias, nullptr, static_cast<Row*>(y.data_ptr()));
    return y.to(at::kBFloat16);
  }
  at::Tensor y = at::empty({rows, out_}, x.options().dtype(at::kBFloat16));
  Multiply(from, rows, bias, nullptr, static_cast<Bf16*>(y.data_ptr()));
  return y;
}

const Bf16* Bf16Matrix::FirstOfThread() const {
  return weights_ + PartBegin(panels_) * panel_weights_;
}

template <typename Row, typename Run>
void Bf16Matrix::RunPanels(const Bf16Matrix* next, const Run& run) const {
  const auto& product = std::get<ProductOf<Row>>(product_);
  ParallelFor(panels_, std::max<int64_t>(1, kGrainElements / panel_weights_), Work::kProducts,
              [&](int64_t begin, int64_t end) {
                run(product, begin, end, next != nullptr ? next->FirstOfThread() : nullptr);
              });
}

template <typename Row>
void Bf16Matrix::Multiply(const Row* x, int64_t rows, const float* bias, const Bf16Matrix* next,
                          Bf16* y) const {
  const ProductShape shape{rows, in_, out_};
  RunPanels<Row>(next, [&](const auto& product, int64_t begin, int64_t end, const Bf16* after) {
    product.Run(shape, begin, end, x, weights_, bias, after, y);
  });
}

template <typename Row>
void Bf16Matrix::MultiplyGated(const Row* x, int64_t rows, const float* bias,
                               const Bf16Matrix* next, Row* y) const {
  const ProductShape shape{rows, in_, out_};
  RunPanels<Row>(next, [&](const auto& product, int64_t begin, int64_t end, const Bf16* after) {
    product.RunGated(shape, begin, end, x, weights_, bias, after, y);
  });
}

template void Bf16Matrix::Multiply(const float*, int64_t, const float*, const Bf16Matrix*,
                                   Bf16*) const;
template void Bf16Matrix::Multiply(const Bf16*, int64_t, const float*, const Bf16Matrix*,
                                   Bf16*) const;
template void Bf16Matrix::MultiplyGated(const float*, int64_t, const float*, const Bf16Matrix*,
                                        float*) const;
template void Bf16Matrix::MultiplyGated(const Bf16*, int64_t, const float*, const Bf16Matrix*,
                                        Bf16*) const;

}  // namespace strata::engine
