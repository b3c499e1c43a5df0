#ifndef STRATA_SERVICES_VERIFY_ENGINE_PANEL_PRODUCT_H_
#define STRATA_SERVICES_VERIFY_ENGINE_PANEL_PRODUCT_H_

#include <cstdint>

#include "services/verify/engine/bf16.h"

namespace strata::engine {

// Outputs whose weights lie together.
inline constexpr int64_t kPanelOutputs = 16;
inline int64_t PanelCount(int64_t out) { return (out + kPanelOutputs - 1) / kPanelOutputs; }

struct PanelProductShape {
  int64_t rows;
  int64_t in;
  int64_t out;
};

// y = x W^T + b for the outputs of panels [begin, end).
// x: [rows, in]; y: [rows, out]; bias: [out] or null.
// weights: [PanelCount(out), in, 8, 2], element (p, k, j, i) is W[16 p + 8 i + j, k], zeros behind
// the last output: as 32-bit words, eight outputs are in the upper halves and eight in the lower
// ones, from where they get to be fp32 in one operation each.
void PanelProduct(const PanelProductShape& shape, int64_t begin, int64_t end, const float* x,
                  const Bf16* weights, const float* bias, Bf16* y);

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_PANEL_PRODUCT_H_
