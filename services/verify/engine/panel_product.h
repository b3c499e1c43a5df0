#ifndef STRATA_SERVICES_VERIFY_ENGINE_PANEL_PRODUCT_H_
#define STRATA_SERVICES_VERIFY_ENGINE_PANEL_PRODUCT_H_

#include <cstdint>
#include <vector>

#include "services/verify/engine/bf16.h"
#include "services/verify/engine/product_shape.h"

namespace strata::engine {

// Products of rows with panels of weights, in one of the ways that CPUs have. All sum in the order
// of the inputs; those with fused operations (all but the one for any x86-64) give the same bits.
class PanelProduct {
 public:
  using Row = float;

  // The fastest on this CPU.
  static const PanelProduct& Best();
  // Those that this CPU can run.
  static std::vector<PanelProduct> All();

  // Outputs whose weights lie together: of two vectors.
  int64_t panel_outputs() const { return outputs_; }
  int64_t PanelCount(int64_t out) const { return (out + outputs_ - 1) / outputs_; }

  // y = x W^T + b for the outputs of panels [begin, end).
  // x: [rows, in]; y: [rows, out]; bias: [out] or null.
  // weights: [PanelCount(out), in, n, 2], n half of panel_outputs(), element (p, k, j, i) is
  // W[n (2 p + i) + j, k], zeros behind the last output: as 32-bit words, n outputs are in the
  // upper halves and n in the lower ones, from where they get to be fp32 in one operation each.
  // after: weights that the thread will read next, or null.
  void Run(const ProductShape& shape, int64_t begin, int64_t end, const float* x,
           const Bf16* weights, const float* bias, const Bf16* after, Bf16* y) const;
  // The same, and then silu(gate) * up (ProductShape). y: [rows, out / 2], rounded to bf16; bias:
  // gates first.
  void RunGated(const ProductShape& shape, int64_t begin, int64_t end, const float* x,
                const Bf16* weights, const float* bias, const Bf16* after, float* y) const;

  // What a pass over one panel fetches of the next one meanwhile: memory would stand still while
  // all but the first compute with weights from the cache, and then be waited for. (EPYC 7003, in
  // turns: plain decoding of SmolLM2-135M at 62 to 69 tokens/s without, 74 to 79 with.)
  struct Ahead {
    const char* from;
    int64_t step;  // bytes for each input
  };
  // x: [rows, in], rows as many as the function is for; weights: one panel; sums: [rows, outputs].
  using Tile = void (*)(const float* x, int64_t in, const Bf16* weights, const Ahead& ahead,
                        float* sums);
  // Of one gated panel: sums [rows, panel_outputs()]; its biases or nulls; y: its first output of
  // the first row, [rows, width].
  struct Gated {
    const float* sums;
    int64_t rows;
    const float* gate_bias;
    const float* up_bias;
    int64_t width;
    float* y;
  };
  using StoreGated = void (*)(const Gated& gated);

 private:
  template <typename Way>
  static PanelProduct Of();
  // tiles: of 1, 2, … most_rows rows; of static storage.
  PanelProduct(int64_t outputs, int64_t most_rows, const Tile* tiles, StoreGated store_gated)
      : outputs_(outputs), most_rows_(most_rows), tiles_(tiles), store_gated_(store_gated) {}
  // store(sums, row, rows, panel): takes a panel's sums of rows from `row` on.
  template <typename Store>
  void RunPanels(const ProductShape& shape, int64_t begin, int64_t end, const float* x,
                 const Bf16* weights, const Bf16* after, const Store& store) const;

  int64_t outputs_;
  int64_t most_rows_;
  const Tile* tiles_;
  StoreGated store_gated_;
};

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_PANEL_PRODUCT_H_
