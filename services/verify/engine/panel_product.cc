#include "services/verify/engine/panel_product.h"

#include <algorithm>
#include <cstring>

#include "services/verify/engine/simd.h"

namespace strata::engine {
namespace {

// Rows of one pass over a panel: with two vectors of sums each, what 16 registers hold.
constexpr int kTileRows = 6;
// Of a panel, for each input.
constexpr int64_t kPanelBytes = kPanelOutputs * sizeof(Bf16);

// What the passes over one panel fetch of the next one meanwhile: memory would stand still while
// all but the first compute with weights from the cache, and then be waited for. (EPYC 7003, in
// turns: plain decoding of SmolLM2-135M at 62 to 69 tokens/s without, 74 to 79 with.)
struct Ahead {
  const char* from;
  int64_t step;  // bytes for each input
};

// sums: [kRows, kPanelOutputs].
template <int kRows>
STRATA_INLINE void Tile(const float* x, int64_t in, const Bf16* weights, const Ahead& ahead,
                        float* sums) {
  F32x8 low[kRows], high[kRows];
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) low[r] = high[r] = F32x8{};
  for (int64_t k = 0; k < in; ++k) {
    // Into L2 alone: rows and weights of this panel fill L1.
    __builtin_prefetch(ahead.from + k * ahead.step, 0, 2);
    U32x8 words;
    std::memcpy(&words, weights + k * kPanelOutputs, sizeof(words));
    const U32x8 low_bits = words << 16;
    const U32x8 high_bits = words & 0xFFFF0000u;
    F32x8 low_weights, high_weights;
    std::memcpy(&low_weights, &low_bits, sizeof(low_weights));
    std::memcpy(&high_weights, &high_bits, sizeof(high_weights));
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      const float s = x[r * in + k];
      low[r] += low_weights * s;
      high[r] += high_weights * s;
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
    Store(low[r], sums + r * kPanelOutputs);
    Store(high[r], sums + r * kPanelOutputs + kLanes);
  }
}

// Each a function of its own: inlined into one, their sums do not stay in registers.
STRATA_CLONES void Tile1(const float* x, int64_t in, const Bf16* weights, const Ahead& ahead,
                         float* sums) {
  Tile<1>(x, in, weights, ahead, sums);
}
STRATA_CLONES void Tile2(const float* x, int64_t in, const Bf16* weights, const Ahead& ahead,
                         float* sums) {
  Tile<2>(x, in, weights, ahead, sums);
}
STRATA_CLONES void Tile3(const float* x, int64_t in, const Bf16* weights, const Ahead& ahead,
                         float* sums) {
  Tile<3>(x, in, weights, ahead, sums);
}
STRATA_CLONES void Tile4(const float* x, int64_t in, const Bf16* weights, const Ahead& ahead,
                         float* sums) {
  Tile<4>(x, in, weights, ahead, sums);
}
STRATA_CLONES void Tile5(const float* x, int64_t in, const Bf16* weights, const Ahead& ahead,
                         float* sums) {
  Tile<5>(x, in, weights, ahead, sums);
}
STRATA_CLONES void Tile6(const float* x, int64_t in, const Bf16* weights, const Ahead& ahead,
                         float* sums) {
  Tile<6>(x, in, weights, ahead, sums);
}

void AnyTile(int64_t rows, const float* x, int64_t in, const Bf16* weights, const Ahead& ahead,
             float* sums) {
  switch (rows) {
    case 1:
      return Tile1(x, in, weights, ahead, sums);
    case 2:
      return Tile2(x, in, weights, ahead, sums);
    case 3:
      return Tile3(x, in, weights, ahead, sums);
    case 4:
      return Tile4(x, in, weights, ahead, sums);
    case 5:
      return Tile5(x, in, weights, ahead, sums);
    default:
      return Tile6(x, in, weights, ahead, sums);
  }
}

// sums: [rows, kPanelOutputs]; bias: of the panel, or null; y: of the panel's first output.
STRATA_CLONES void StoreSums(const float* sums, int64_t rows, int64_t outputs, const float* bias,
                             int64_t out, Bf16* y) {
  for (int64_t r = 0; r < rows; ++r) {
    int64_t i = 0;
    for (; i + kLanes <= outputs; i += kLanes) {
      F32x8 sum, b{};
      Load(sums + r * kPanelOutputs + i, sum);
      if (bias != nullptr) Load(bias + i, b);
      sum += b;
      Store(sum, y + r * out + i);
    }
    for (; i < outputs; ++i) {
      FromFloat(sums[r * kPanelOutputs + i] + (bias != nullptr ? bias[i] : 0.0f), y[r * out + i]);
    }
  }
}

}  // namespace

void PanelProduct(const PanelProductShape& shape, int64_t begin, int64_t end, const float* x,
                  const Bf16* weights, const float* bias, Bf16* y) {
  // Tiles of about one size: eight rows are four and four, not six and two.
  const int64_t tiles = (shape.rows + kTileRows - 1) / kTileRows;
  float sums[kTileRows * kPanelOutputs];
  for (int64_t panel = begin; panel < end; ++panel) {
    const int64_t first = panel * kPanelOutputs;
    const int64_t outputs = std::min(kPanelOutputs, shape.out - first);
    const Bf16* const own = weights + first * shape.in;
    const Bf16* const next = panel + 1 < end ? own + kPanelOutputs * shape.in : own;
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t row = shape.rows * tile / tiles;
      const int64_t rows = shape.rows * (tile + 1) / tiles - row;
      const Ahead ahead = {
          reinterpret_cast<const char*>(next + kPanelOutputs * shape.in * tile / tiles),
          (kPanelBytes + tiles - 1) / tiles};
      AnyTile(rows, x + row * shape.in, shape.in, own, ahead, sums);
      StoreSums(sums, rows, outputs, bias == nullptr ? nullptr : bias + first, shape.out,
                y + row * shape.out + first);
    }
  }
}

}  // namespace strata::engine
