#include "services/verify/engine/quantized_matrix.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <optional>
#include <vector>

#include "services/verify/engine/kernels.h"

namespace strata::engine {
namespace {

// oneDNN's fast product takes unsigned activations alone.
constexpr int64_t kZeroPoint = 128;
// The packed layout is chosen for about as many rows as a step has.
constexpr int64_t kTypicalRows = 8;

// Greatest whole number of a weight. Without AVX-512 VNNI, oneDNN adds two products of 8 bits in
// 16, where they must fit: 2 * 255 * 63.
double GreatestWeight() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512vnni") ? 127 : 63;
#else
  return 127;
#endif
}

at::Tensor Pack(const at::Tensor& weight) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("onednn::qlinear_prepack", "")
                             .typed<at::Tensor(at::Tensor, std::optional<c10::List<int64_t>>)>();
  return op.call(weight, c10::List<int64_t>({kTypicalRows, weight.size(1)}));
}

// fp32 sums of x times packed, each times its output's scale.
at::Tensor Product(const at::Tensor& x, const at::Tensor& packed, const at::Tensor& scales,
                   const at::Tensor& zero_points) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("onednn::qlinear_pointwise", "")
          .typed<at::Tensor(at::Tensor, double, int64_t, at::Tensor, at::Tensor, at::Tensor,
                            std::optional<at::Tensor>, double, int64_t,
                            std::optional<c10::ScalarType>, c10::string_view,
                            c10::List<std::optional<at::Scalar>>, c10::string_view)>();
  static const c10::List<std::optional<at::Scalar>> no_scalars;
  return op.call(x, 1.0, kZeroPoint, packed, scales, zero_points, std::nullopt, 1.0, 0, at::kFloat,
                 "none", no_scalars, "");
}

template <typename T>
void Quantize(const at::Tensor& x, uint8_t* out, float* scales) {
  QuantizeRows(static_cast<const T*>(x.data_ptr()), x.size(0), x.size(1), out, scales);
}

template <typename T>
at::Tensor Scaled(const at::Tensor& sums, const float* scales, const float* bias,
                  at::ScalarType type) {
  at::Tensor y = at::empty(sums.sizes(), at::TensorOptions().dtype(type));
  ScaleRows(sums.data_ptr<float>(), scales, bias, sums.size(0), sums.size(1),
            static_cast<T*>(y.data_ptr()));
  return y;
}

}  // namespace

QuantizedMatrix::QuantizedMatrix(const at::Tensor& weight) {
  const at::Tensor wide = weight.to(at::kFloat);
  // An output of zeros alone has any scale.
  scales_ = wide.abs().amax(1).clamp_min(1e-30) / GreatestWeight();
  packed_ = Pack((wide / scales_.unsqueeze(1)).round_().to(at::kChar));
  zero_points_ = at::zeros({weight.size(0)}, at::TensorOptions().dtype(at::kInt));
}

at::Tensor QuantizedMatrix::Multiply(const at::Tensor& x, const float* bias) const {
  at::Tensor quantized = at::empty(x.sizes(), at::TensorOptions().dtype(at::kByte));
  std::vector<float> scales(static_cast<size_t>(x.size(0)));
  auto* const bytes = static_cast<uint8_t*>(quantized.data_ptr());
  const bool fp32 = x.scalar_type() == at::kFloat;
  if (fp32) {
    Quantize<float>(x, bytes, scales.data());
  } else {
    Quantize<Bf16>(x, bytes, scales.data());
  }
  const at::Tensor sums = Product(quantized, packed_, scales_, zero_points_);
  return fp32 ? Scaled<float>(sums, scales.data(), bias, at::kFloat)
              : Scaled<Bf16>(sums, scales.data(), bias, at::kBFloat16);
}

}  // namespace strata::engine
