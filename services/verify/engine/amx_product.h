#ifndef STRATA_SERVICES_VERIFY_ENGINE_AMX_PRODUCT_H_
#define STRATA_SERVICES_VERIFY_ENGINE_AMX_PRODUCT_H_

#include <cstdint>

#include "services/verify/engine/bf16.h"
#include "services/verify/engine/product_shape.h"

namespace strata::engine {

// Products of bf16 rows with panels of weights on AMX, row-invariant as its tiles are (amx.h),
// which oneDNN's products on this unit are not: they choose their order by the number of rows. Up
// to 16 rows cost it what one costs, so a draft tree of that size is verified in the time of a
// plain step. The bits are not those of PanelProduct: the unit sums inputs in pairs.
class AmxProduct {
 public:
  // Two tiles of 16.
  static constexpr int64_t panel_outputs() { return 32; }
  static constexpr int64_t PanelCount(int64_t out) {
    return (out + panel_outputs() - 1) / panel_outputs();
  }
  // Inputs are taken so many at a time.
  static constexpr int64_t kBlockInputs = 32;

  // y = x W^T + b for the outputs of panels [begin, end). Where AmxIsUsable().
  // x: [rows, in]; y: [rows, out]; bias: [out] or null.
  // weights: [PanelCount(out), B, 2, 16, 16, 2], B blocks of kBlockInputs, element (p, b, t, k, j,
  // i) is W[32 p + 16 t + j, 32 b + 2 k + i], zeros behind the last output and the last input.
  // after: weights that the thread will read next, or null.
  static void Run(const ProductShape& shape, int64_t begin, int64_t end, const Bf16* x,
                  const Bf16* weights, const float* bias, const Bf16* after, Bf16* y);
  // The same, and then silu(gate) * up (ProductShape). y: [rows, out / 2]; bias: gates first.
  static void RunGated(const ProductShape& shape, int64_t begin, int64_t end, const Bf16* x,
                       const Bf16* weights, const float* bias, const Bf16* after, Bf16* y);
};

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_AMX_PRODUCT_H_
