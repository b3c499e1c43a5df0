#include "services/verify/engine/linear.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include "services/verify/engine/kernels.h"

namespace strata::engine {
namespace {

// oneDNN's packed operations are registered with the dispatcher alone.
at::Tensor Reorder(const at::Tensor& weight) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("mkldnn::_reorder_linear_weight", "")
                             .typed<at::Tensor(const at::Tensor&, std::optional<int64_t>)>();
  return op.call(weight, std::nullopt);
}

at::Tensor Multiply(const at::Tensor& x, const at::Tensor& weight,
                    const std::optional<at::Tensor>& bias) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("mkldnn::_linear_pointwise", "")
          .typed<at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                            c10::string_view, c10::List<std::optional<at::Scalar>>,
                            std::optional<c10::string_view>)>();
  static const c10::List<std::optional<at::Scalar>> no_scalars;
  return op.call(x, weight, bias, "none", no_scalars, "");
}

// Whether oneDNN has a product in bf16 on this CPU: LibTorch tells by refusing to pack a weight.
bool HasBf16Product() {
  try {
    Reorder(at::zeros({16, 16}, at::TensorOptions().dtype(at::kBFloat16)));
    return true;
  } catch (const c10::Error&) {
    return false;
  }
}

// Decided by the kind of the CPU, not by a trial: its like elsewhere must give the same bits.
// On Intel's it would multiply in AMX, where some shapes are not row-invariant, or, where a
// hypervisor hides that, in AVX512-BF16, which does half as much a cycle there as the fused
// operations in fp32 (86 and 175 GFLOPS a core, Xeon of 2023).
bool PrefersOneDnn() {
#if defined(__x86_64__)
  static const bool prefers = !__builtin_cpu_is("intel") && HasBf16Product();
#else
  static const bool prefers = HasBf16Product();
#endif
  return prefers;
}

// oneDNN has a slower path for two and three rows (SmolLM2, a step of two rows 16.3 ms, of four
// 14.9; Qwen2.5-Coder-0.5B 47 and 37).
constexpr int64_t kOneDnnLeastRows = 4;
// Most rows of one product: a longer pass is computed in blocks, so that the self-check has seen
// everything that happens.
constexpr int64_t kBlockRows = 512;

bool SameBits(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.contiguous();
  const at::Tensor y = b.contiguous();
  return x.nbytes() == y.nbytes() && std::memcmp(x.data_ptr(), y.data_ptr(), x.nbytes()) == 0;
}

}  // namespace

PackedLinear::PackedLinear(const at::Tensor& weight, const at::Tensor& bias, WeightType type,
                           Activation activation)
    : in_(weight.size(1)),
      out_(weight.size(0)),
      type_(weight.scalar_type()),
      activation_(activation) {
  if (type == WeightType::kInt8) {
    quantized_.emplace(weight);
  } else if (type_ == at::kBFloat16 && !PrefersOneDnn()) {
    bf16_.emplace(weight, BestBf16Product(), activation == Activation::kSiluGate);
  } else {
    packed_ = Reorder(weight.contiguous());
  }
  if (bias.defined()) bias_ = bias.to(packed_.defined() ? type_ : at::kFloat).contiguous();
}

int64_t PackedLinear::least_rows() const { return bf16_ ? 1 : kOneDnnLeastRows; }

at::Tensor PackedLinear::Run(const at::Tensor& x) const {
  if (bf16_) return bf16_->Multiply(x, bias());
  const at::Tensor y = quantized_ ? quantized_->Multiply(x, bias()) : Multiply(x, packed_, bias_);
  return activation_ == Activation::kNone ? y : Activated(y);
}

at::Tensor PackedLinear::Activated(const at::Tensor& gate_up) const {
  const int64_t rows = gate_up.size(0);
  at::Tensor y = at::empty({rows, width()}, gate_up.options());
  if (type_ == at::kFloat) {
    SiluMultiply(gate_up.const_data_ptr<float>(), rows, width(), y.data_ptr<float>());
  } else {
    SiluMultiply(static_cast<const Bf16*>(gate_up.const_data_ptr()), rows, width(),
                 static_cast<Bf16*>(y.data_ptr()));
  }
  return y;
}

at::Tensor PackedLinear::Forward(const at::Tensor& x) const {
  const int64_t rows = x.size(0);
  if (rows <= (pairs_ ? 2 : kBlockRows)) return Run(x);
  at::Tensor y = at::empty({rows, width()}, x.options());
  if (!pairs_) {
    for (int64_t at = 0; at < rows;) {
      int64_t count = std::min(kBlockRows, rows - at);
      // No row is left alone.
      if (rows - at - count == 1) --count;
      y.narrow(0, at, count).copy_(Run(x.narrow(0, at, count)));
      at += count;
    }
    return y;
  }
  // An odd last row is paired with the one before it.
  for (int64_t r = 0; r < rows; r += 2) {
    const int64_t at = std::min(r, rows - 2);
    y.narrow(0, at, 2).copy_(Run(x.narrow(0, at, 2).contiguous()));
  }
  return y;
}

bool PackedLinear::CheckRowInvariance() const {
  // A bf16 result hides most differences in the order of a sum, so many rows are compared.
  at::Tensor x = at::randn({kBlockRows, in_}, at::TensorOptions().dtype(type_));
  const at::Tensor all = Run(x);
  for (int64_t group :
       {1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 29, 32, 33, 64, 65, 129, 200, 257, 511}) {
    if (group < std::min<int64_t>(2, least_rows())) continue;
    for (int64_t at = 0; at + group <= kBlockRows; at += group) {
      // First and last groups suffice.
      if (at >= 4 * group && at + 2 * group <= kBlockRows) continue;
      if (!SameBits(Run(x.narrow(0, at, group).contiguous()), all.narrow(0, at, group))) {
        return false;
      }
    }
  }
  return true;
}

}  // namespace strata::engine
