#include "services/verify/engine/amx_product.h"

#include <algorithm>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace strata::engine {

#if defined(__x86_64__)
namespace {

#define STRATA_AMX \
  __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))

constexpr int64_t kTileRows = 16;
constexpr int64_t kBlockRows = 2 * kTileRows;
constexpr int64_t kPanelOutputs = AmxProduct::panel_outputs();
constexpr int64_t kBlockInputs = AmxProduct::kBlockInputs;
// Weights of a panel for one block of inputs.
constexpr int64_t kBlockWeights = kPanelOutputs * kBlockInputs;
constexpr int64_t kLine = 64 / sizeof(Bf16);
constexpr int64_t kBlockLines = kBlockWeights / kLine;

// What LDTILECFG reads.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// The compiler's intrinsics do not tell it what memory they read.
STRATA_AMX void Fence() { asm volatile("" ::: "memory"); }

// The unit's eight registers, for up to kBlockRows rows: 0 and 1 hold the first tile's sums, 2 and
// 3 the second's, 4 and 5 rows of inputs, 6 and 7 weights.
STRATA_AMX void ConfigureTiles(int64_t rows) {
  const auto first = static_cast<uint8_t>(std::min(rows, kTileRows));
  const auto second = static_cast<uint8_t>(rows - first);
  TileConfig config;
  const auto set = [&](int tile, uint8_t tile_rows) {
    config.rows[tile] = tile_rows;
    config.row_bytes[tile] = tile_rows > 0 ? 64 : 0;
  };
  for (const int tile : {0, 1, 4}) set(tile, first);
  for (const int tile : {2, 3, 5}) set(tile, second);
  for (const int tile : {6, 7}) set(tile, kBlockInputs / 2);
  Fence();
  _tile_loadconfig(&config);
  Fence();
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
    Fence();
    AddBlock<kSecondTile>(tail, kBlockInputs * sizeof(Bf16), weights + blocks * kBlockWeights);
  }
  constexpr int64_t kStride = kPanelOutputs * sizeof(float);
  _tile_stored(0, sums, kStride);
  _tile_stored(1, sums + kPanelOutputs / 2, kStride);
  if constexpr (kSecondTile) {
    _tile_stored(2, sums + kTileRows * kPanelOutputs, kStride);
    _tile_stored(3, sums + kTileRows * kPanelOutputs + kPanelOutputs / 2, kStride);
  }
  Fence();
}

// Adds the bias and rounds. bias: of the panel, or null; y: [rows, out], of the panel's first
// output.
STRATA_AMX void StoreSums(const float* sums, int64_t rows, int64_t outputs, const float* bias,
                          int64_t out, Bf16* y) {
  const auto mask = static_cast<__mmask32>((uint64_t{1} << outputs) - 1);
  __m512 low_bias = _mm512_setzero_ps();
  __m512 high_bias = _mm512_setzero_ps();
  if (bias != nullptr) {
    low_bias = _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), bias);
    high_bias = _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask >> 16), bias + 16);
  }
  for (int64_t r = 0; r < rows; ++r) {
    const __m512 low = _mm512_loadu_ps(sums + r * kPanelOutputs) + low_bias;
    const __m512 high = _mm512_loadu_ps(sums + r * kPanelOutputs + 16) + high_bias;
    const __m512bh rounded = _mm512_cvtne2ps_pbh(high, low);
    __m512i bits;
    std::memcpy(&bits, &rounded, sizeof(bits));
    _mm512_mask_storeu_epi16(y + r * out, mask, bits);
  }
}

bool HasTiles() {
  // CPUID.(7, 0).EDX; not all compilers know their names.
  constexpr uint32_t kAmxBf16 = 1u << 22;
  constexpr uint32_t kAmxTile = 1u << 24;
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx & kAmxBf16) != 0 &&
         (edx & kAmxTile) != 0 && __builtin_cpu_supports("avx512bf16") != 0;
}

bool MayUseTiles() {
  // From Linux's <asm/prctl.h>: state that a process must ask for (Linux 5.16; EINVAL before).
  constexpr int kRequestPermission = 0x1023;
  constexpr int kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

bool AmxProduct::IsUsable() {
  static const bool usable = HasTiles() && MayUseTiles();
  return usable;
}

STRATA_AMX void AmxProduct::Run(const ProductShape& shape, int64_t begin, int64_t end,
                                const Bf16* x, const Bf16* weights, const float* bias,
                                const Bf16* after, Bf16* y) {
  if (shape.rows == 0) return;
  const int64_t panel_weights =
      (shape.in + kBlockInputs - 1) / kBlockInputs * kBlockInputs * kPanelOutputs;
  const int64_t passes = (shape.rows + kBlockRows - 1) / kBlockRows;
  // Of each pass over a panel.
  const int64_t lines = (kBlockLines + passes - 1) / passes;
  int64_t configured = 0;
  alignas(64) float sums[kBlockRows * kPanelOutputs];
  for (int64_t panel = begin; panel < end; ++panel) {
    const int64_t first = panel * kPanelOutputs;
    const int64_t outputs = std::min(kPanelOutputs, shape.out - first);
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
      StoreSums(sums, rows, outputs, bias == nullptr ? nullptr : bias + first, shape.out,
                y + row * shape.out + first);
    }
  }
  // Else the system would keep eight kilobytes of it for this thread.
  _tile_release();
}

#else

bool AmxProduct::IsUsable() { return false; }
void AmxProduct::Run(const ProductShape&, int64_t, int64_t, const Bf16*, const Bf16*, const float*,
                     const Bf16*, Bf16*) {}

#endif

}  // namespace strata::engine
