#include "services/verify/engine/panel_product.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "services/verify/engine/silu.h"
#include "services/verify/engine/simd.h"

namespace strata::engine {
namespace {

using Ahead = PanelProduct::Ahead;
using Gated = PanelProduct::Gated;

// kRows rows with one panel, whose sums, two vectors a row, stay in registers.
template <int kLanes, int kRows>
STRATA_INLINE void RunTile(const float* x, int64_t in, const Bf16* weights, const Ahead& ahead,
                           float* sums) {
  using F32 = typename Vectors<kLanes>::F32;
  using U32 = typename Vectors<kLanes>::U32;
  constexpr int64_t kOutputs = 2 * kLanes;
  F32 low[kRows], high[kRows];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) low[r] = high[r] = F32{};
  for (int64_t k = 0; k < in; ++k) {
    // Into L2 alone: rows and weights of this panel fill L1.
    __builtin_prefetch(ahead.from + k * ahead.step, 0, 2);
    // A line an input, which takes a few cycles: L1's own prefetcher is late. (Xeon of 2023, a
    // panel in L2: 8 rows at 140 GFLOPS without, 151 with; 4 at 106 and 134.)
    if constexpr (kLanes == 16) __builtin_prefetch(weights + k * kOutputs + 512, 0, 3);
    U32 words;
    std::memcpy(&words, weights + k * kOutputs, sizeof(words));
    const U32 low_bits = words << 16;
    const U32 high_bits = words & 0xFFFF0000u;
    F32 low_weights, high_weights;
    std::memcpy(&low_weights, &low_bits, sizeof(low_weights));
    std::memcpy(&high_weights, &high_bits, sizeof(high_weights));
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const float s = x[r * in + k];
      low[r] += low_weights * s;
      high[r] += high_weights * s;
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    std::memcpy(sums + r * kOutputs, &low[r], sizeof(low[r]));
    std::memcpy(sums + r * kOutputs + kLanes, &high[r], sizeof(high[r]));
  }
}

// One vector; bias: of it, or null.
template <typename F32>
STRATA_INLINE void AddAndRound(const float* sums, const float* bias, F32& out) {
  F32 b{};
  Load(sums, out);
  if (bias != nullptr) Load(bias, b);
  out += b;
  StoreRounded<Bf16>(out, reinterpret_cast<float*>(&out));
}

template <int kLanes>
STRATA_INLINE void StoreGatedRows(const Gated& gated) {
  using F32 = typename Vectors<kLanes>::F32;
  for (int64_t r = 0; r < gated.rows; ++r) {
    F32 gate, up, product;
    AddAndRound(gated.sums + r * 2 * kLanes, gated.gate_bias, gate);
    AddAndRound(gated.sums + r * 2 * kLanes + kLanes, gated.up_bias, up);
    SiluTimes(gate, up, product);
    StoreRounded<Bf16>(product, gated.y + r * gated.width);
  }
}

// A way to compute tiles: its lanes, the rows of the largest (what the registers hold with two
// vectors of sums each, 16 of them or 32), and each tile as a function of its own: inlined into
// one, their sums do not stay in registers.
struct AnyCpu {
  static constexpr int kLanes = 8;
  static constexpr int kMostRows = 6;
  static void StoreGated(const Gated& gated) { StoreGatedRows<kLanes>(gated); }
  template <int kRows>
  static void Tile(const float* x, int64_t in, const Bf16* weights, const Ahead& ahead,
                   float* sums) {
    RunTile<kLanes, kRows>(x, in, weights, ahead, sums);
  }
};

#if defined(__x86_64__)
struct Avx2 {
  static constexpr int kLanes = 8;
  static constexpr int kMostRows = 6;
  __attribute__((target("avx2,fma"))) static void StoreGated(const Gated& gated) {
    StoreGatedRows<kLanes>(gated);
  }
  template <int kRows>
  __attribute__((target("avx2,fma"))) static void Tile(const float* x, int64_t in,
                                                       const Bf16* weights, const Ahead& ahead,
                                                       float* sums) {
    RunTile<kLanes, kRows>(x, in, weights, ahead, sums);
  }
};

struct Avx512 {
  static constexpr int kLanes = 16;
  static constexpr int kMostRows = 12;
  STRATA_AVX512 static void StoreGated(const Gated& gated) { StoreGatedRows<kLanes>(gated); }
  template <int kRows>
  STRATA_AVX512 static void Tile(const float* x, int64_t in, const Bf16* weights,
                                 const Ahead& ahead, float* sums) {
    RunTile<kLanes, kRows>(x, in, weights, ahead, sums);
  }
};
#endif

// Sums of the largest tile of any way.
constexpr int64_t kMostSums = 12 * 32;

// Of 1, 2, … rows.
template <typename Way, int... kRows>
const PanelProduct::Tile* TilesOf(std::integer_sequence<int, kRows...>) {
  static_assert(2 * Way::kLanes * Way::kMostRows <= kMostSums);
  static constexpr PanelProduct::Tile kTiles[] = {&Way::template Tile<kRows + 1>...};
  return kTiles;
}

// sums: [rows, stride]; bias: of the panel, or null; y: of the panel's first output.
STRATA_CLONES void StoreSums(const float* sums, int64_t rows, int64_t stride, int64_t outputs,
                             const float* bias, int64_t out, Bf16* y) {
  for (int64_t r = 0; r < rows; ++r) {
    int64_t i = 0;
    for (; i + kLanes <= outputs; i += kLanes) {
      F32x8 sum, b{};
      Load(sums + r * stride + i, sum);
      if (bias != nullptr) Load(bias + i, b);
      sum += b;
      Store(sum, y + r * out + i);
    }
    for (; i < outputs; ++i) {
      FromFloat(sums[r * stride + i] + (bias != nullptr ? bias[i] : 0.0f), y[r * out + i]);
    }
  }
}

}  // namespace

template <typename Way>
PanelProduct PanelProduct::Of() {
  return PanelProduct(2 * Way::kLanes, Way::kMostRows,
                      TilesOf<Way>(std::make_integer_sequence<int, Way::kMostRows>()),
                      &Way::StoreGated);
}

std::vector<PanelProduct> PanelProduct::All() {
  std::vector<PanelProduct> all;
#if defined(__x86_64__)
  if (HasAvx512()) all.push_back(Of<Avx512>());
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) all.push_back(Of<Avx2>());
#endif
  all.push_back(Of<AnyCpu>());
  return all;
}

const PanelProduct& PanelProduct::Best() {
  static const PanelProduct best = All().front();
  return best;
}

template <typename Store>
void PanelProduct::RunPanels(const ProductShape& shape, int64_t begin, int64_t end, const float* x,
                             const Bf16* weights, const Bf16* after, const Store& store) const {
  // Tiles of about one size: eight rows are four and four, not six and two.
  const int64_t tiles = (shape.rows + most_rows_ - 1) / most_rows_;
  const int64_t panel_bytes = outputs_ * static_cast<int64_t>(sizeof(Bf16));
  float sums[kMostSums];
  for (int64_t panel = begin; panel < end; ++panel) {
    const Bf16* const own = weights + panel * outputs_ * shape.in;
    const Bf16* const next = panel + 1 < end    ? own + outputs_ * shape.in
                             : after != nullptr ? after
                                                : own;
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t row = shape.rows * tile / tiles;
      const int64_t rows = shape.rows * (tile + 1) / tiles - row;
      const Ahead ahead = {reinterpret_cast<const char*>(next + outputs_ * shape.in * tile / tiles),
                           (panel_bytes + tiles - 1) / tiles};
      tiles_[rows - 1](x + row * shape.in, shape.in, own, ahead, sums);
      store(sums, row, rows, panel);
    }
  }
}

void PanelProduct::Run(const ProductShape& shape, int64_t begin, int64_t end, const float* x,
                       const Bf16* weights, const float* bias, const Bf16* after, Bf16* y) const {
  RunPanels(shape, begin, end, x, weights, after,
            [&](const float* sums, int64_t row, int64_t rows, int64_t panel) {
              const int64_t first = panel * outputs_;
              StoreSums(sums, rows, outputs_, std::min(outputs_, shape.out - first),
                        bias == nullptr ? nullptr : bias + first, shape.out,
                        y + row * shape.out + first);
            });
}

void PanelProduct::RunGated(const ProductShape& shape, int64_t begin, int64_t end, const float* x,
                            const Bf16* weights, const float* bias, const Bf16* after,
                            float* y) const {
  const int64_t width = shape.out / 2;
  RunPanels(shape, begin, end, x, weights, after,
            [&](const float* sums, int64_t row, int64_t rows, int64_t panel) {
              const int64_t first = panel * (outputs_ / 2);
              store_gated_({.sums = sums,
                            .rows = rows,
                            .gate_bias = bias == nullptr ? nullptr : bias + first,
                            .up_bias = bias == nullptr ? nullptr : bias + width + first,
                            .width = width,
                            .y = y + row * width + first});
            });
}

}  // namespace strata::engine
