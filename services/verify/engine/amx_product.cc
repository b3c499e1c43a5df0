#include "services/verify/engine/amx_product.h"

#include <algorithm>
#include <cstring>

#include "services/verify/engine/amx.h"
#include "services/verify/engine/silu.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace strata::engine {

#if defined(__x86_64__)
namespace {

constexpr int64_t kBlockRows = 2 * kTileRows;
constexpr int64_t kPanelOutputs = AmxProduct::panel_outputs();
constexpr int64_t kBlockInputs = AmxProduct::kBlockInputs;
// Weights of a panel for one block of inputs.
constexpr int64_t kBlockWeights = kPanelOutputs * kBlockInputs;
constexpr int64_t kLine = 64 / sizeof(Bf16);
constexpr int64_t kBlockLines = kBlockWeights / kLine;

// The unit's eight registers, for up to kBlockRows rows: 0 and 1 hold the first tile's sums, 2 and
// 3 the second's, 4 and 5 rows of inputs, 6 and 7 weights.
STRATA_AMX void ConfigureTiles(int64_t rows) {
  constexpr int64_t kBytes = 64;
  const int64_t first = std::min(rows, kTileRows);
  TileConfig config;
  for (const int tile : {0, 1, 4}) config.Set(tile, first, kBytes);
  for (const int tile : {2, 3, 5}) config.Set(tile, rows - first, kBytes);
  for (const int tile : {6, 7}) config.Set(tile, kBlockInputs / 2, kBytes);
  FenceTiles();
  _tile_loadconfig(&config);
  FenceTiles();
}

// Memory to fetch meanwhile (PanelProduct::Ahead): `lines` for each block of inputs.
struct Ahead {
  const Bf16* from;
  int64_t lines;
};

// sums += x W^T for one block of inputs. stride: of x, in bytes.
template <bool kSecondTile>
STRATA_AMX inline void AddBlock(const Bf16* x, int64_t stride, const Bf16* weights) {
  _tile_loadd(6, weights, 64);
  _tile_loadd(7, weights + kBlockWeights / 2, 64);
  _tile_loadd(4, x, stride);
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  if constexpr (kSecondTile) {
    _tile_loadd(5, reinterpret_cast<const char*>(x) + kTileRows * stride, stride);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
}

// Up to kBlockRows rows, as ConfigureTiles was told, with one panel.
// x: [rows, in]; sums: [kBlockRows, kPanelOutputs].
template <bool kSecondTile>
STRATA_AMX void MultiplyPanel(const Bf16* x, int64_t rows, int64_t in, const Bf16* weights,
                              const Ahead& ahead, float* sums) {
  _tile_zero(0);
  _tile_zero(1);
  if constexpr (kSecondTile) {
    _tile_zero(2);
    _tile_zero(3);
  }
  const int64_t blocks = in / kBlockInputs;
  const int64_t stride = in * static_cast<int64_t>(sizeof(Bf16));
  for (int64_t b = 0; b < blocks; ++b) {
    for (int64_t i = 0; i < ahead.lines; ++i) {
      __builtin_prefetch(ahead.from + (b * ahead.lines + i) * kLine, 0, 2);
    }
    AddBlock<kSecondTile>(x + b * kBlockInputs, stride, weights + b * kBlockWeights);
  }
  if (const int64_t rest = in - blocks * kBlockInputs; rest > 0) {
    // Whatever is behind a row must not come in, not even times zero: it may be infinite.
    alignas(64) Bf16 tail[kBlockRows * kBlockInputs] = {};
    for (int64_t r = 0; r < rows; ++r) {
      std::memcpy(tail + r * kBlockInputs, x + r * in + blocks * kBlockInputs,
                  static_cast<size_t>(rest) * sizeof(Bf16));
    }
    FenceTiles();
    AddBlock<kSecondTile>(tail, kBlockInputs * sizeof(Bf16), weights + blocks * kBlockWeights);
  }
  constexpr int64_t kStride = kPanelOutputs * sizeof(float);
  _tile_stored(0, sums, kStride);
  _tile_stored(1, sums + kPanelOutputs / 2, kStride);
  if constexpr (kSecondTile) {
    _tile_stored(2, sums + kTileRows * kPanelOutputs, kStride);
    _tile_stored(3, sums + kTileRows * kPanelOutputs + kPanelOutputs / 2, kStride);
  }
  FenceTiles();
}

// What becomes of a panel's sums, [rows, kPanelOutputs], of rows from `row` on: the bias is added,
// and they are rounded.
struct StoreSums {
  int64_t out;
  const float* bias;  // or null
  Bf16* y;            // [rows, out]

  STRATA_AMX void operator()(const float* sums, int64_t row, int64_t rows, int64_t panel) const {
    const int64_t first = panel * kPanelOutputs;
    const int64_t outputs = std::min(kPanelOutputs, out - first);
    const auto mask = static_cast<__mmask32>((uint64_t{1} << outputs) - 1);
    __m512 low_bias = _mm512_setzero_ps();
    __m512 high_bias = _mm512_setzero_ps();
    if (bias != nullptr) {
      low_bias = _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), bias + first);
      high_bias = _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask >> 16), bias + first + 16);
    }
    for (int64_t r = 0; r < rows; ++r) {
      const __m512i bits = AddAndRound(sums + r * kPanelOutputs, low_bias, high_bias);
      _mm512_mask_storeu_epi16(y + (row + r) * out + first, mask, bits);
    }
  }

  // Of one row: two vectors of fp32 to one of bf16.
  STRATA_AMX static __m512i AddAndRound(const float* sums, const __m512& low_bias,
                                        const __m512& high_bias) {
    const __m512 low = _mm512_loadu_ps(sums) + low_bias;
    const __m512 high = _mm512_loadu_ps(sums + 16) + high_bias;
    const __m512bh rounded = _mm512_cvtne2ps_pbh(high, low);
    __m512i bits;
    std::memcpy(&bits, &rounded, sizeof(bits));
    return bits;
  }
};

// The same of panels whose first half are gates, and what those let through of the second half.
struct StoreGated {
  int64_t width;
  const float* bias;  // or null; [2 * width], gates first
  Bf16* y;            // [rows, width]

  STRATA_AMX void operator()(const float* sums, int64_t row, int64_t rows, int64_t panel) const {
    const int64_t first = panel * (kPanelOutputs / 2);
    __m512 gate_bias = _mm512_setzero_ps();
    __m512 up_bias = _mm512_setzero_ps();
    if (bias != nullptr) {
      gate_bias = _mm512_loadu_ps(bias + first);
      up_bias = _mm512_loadu_ps(bias + width + first);
    }
    for (int64_t r = 0; r < rows; ++r) {
      const __m512i bits = StoreSums::AddAndRound(sums + r * kPanelOutputs, gate_bias, up_bias);
      alignas(64) Bf16 rounded_sums[kPanelOutputs];
      std::memcpy(rounded_sums, &bits, sizeof(bits));
      F32x16 gate, up, product;
      Load(rounded_sums, gate);
      Load(rounded_sums + kPanelOutputs / 2, up);
      SiluTimes(gate, up, product);
      const __m256bh rounded = _mm512_cvtneps_pbh(product);
      std::memcpy(y + (row + r) * width + first, &rounded, sizeof(rounded));
    }
  }
};

template <typename Store>
STRATA_AMX void RunPanels(const ProductShape& shape, int64_t begin, int64_t end, const Bf16* x,
                          const Bf16* weights, const Bf16* after, const Store& store) {
  if (shape.rows == 0) return;
  const int64_t panel_weights =
      (shape.in + kBlockInputs - 1) / kBlockInputs * kBlockInputs * kPanelOutputs;
  const int64_t passes = (shape.rows + kBlockRows - 1) / kBlockRows;
  // Of each pass over a panel.
  const int64_t lines = (kBlockLines + passes - 1) / passes;
  int64_t configured = 0;
  alignas(64) float sums[kBlockRows * kPanelOutputs];
  for (int64_t panel = begin; panel < end; ++panel) {
    const Bf16* const own = weights + panel * panel_weights;
    const Bf16* const next = panel + 1 < end ? own + panel_weights : after != nullptr ? after : own;
    for (int64_t pass = 0; pass < passes; ++pass) {
      const int64_t row = pass * kBlockRows;
      const int64_t rows = std::min(kBlockRows, shape.rows - row);
      if (rows != configured) ConfigureTiles(configured = rows);
      const int64_t fetched = pass * lines;
      const Ahead ahead = {next + fetched * (shape.in / kBlockInputs) * kLine,
                           std::clamp<int64_t>(kBlockLines - fetched, 0, lines)};
      const auto multiply = rows > kTileRows ? MultiplyPanel<true> : MultiplyPanel<false>;
      multiply(x + row * shape.in, rows, shape.in, own, ahead, sums);
      store(sums, row, rows, panel);
    }
  }
  // Else the system would keep eight kilobytes of it for this thread.
  _tile_release();
}

}  // namespace

void AmxProduct::Run(const ProductShape& shape, int64_t begin, int64_t end, const Bf16* x,
                     const Bf16* weights, const float* bias, const Bf16* after, Bf16* y) {
  RunPanels(shape, begin, end, x, weights, after, StoreSums{shape.out, bias, y});
}
void AmxProduct::RunGated(const ProductShape& shape, int64_t begin, int64_t end, const Bf16* x,
                          const Bf16* weights, const float* bias, const Bf16* after, Bf16* y) {
  RunPanels(shape, begin, end, x, weights, after, StoreGated{shape.out / 2, bias, y});
}

#else

void AmxProduct::Run(const ProductShape&, int64_t, int64_t, const Bf16*, const Bf16*, const float*,
                     const Bf16*, Bf16*) {}
void AmxProduct::RunGated(const ProductShape&, int64_t, int64_t, const Bf16*, const Bf16*,
                          const float*, const Bf16*, Bf16*) {}

#endif

}  // namespace strata::engine
