#include "services/verify/engine/tile_attention.h"

#include <cstring>
#include <limits>

#include "services/verify/engine/config.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace strata::engine {

#if defined(__x86_64__)
namespace {

// A product takes so many dimensions of keys, or so many positions of values: a block's, and what
// head dimensions are multiples of.
constexpr int64_t kStep = 16;
static_assert(kStep == kPageTokens);
// Columns of a tile of sums: positions of keys, or dimensions of values.
constexpr int64_t kColumns = 16;

// Registers: 0 to 3 hold sums, 4 what is multiplied (queries, or weights), 5 keys or values.
STRATA_AMX void Configure(int64_t rows, int64_t& configured_rows) {
  if (rows == configured_rows) return;
  configured_rows = rows;
  TileConfig config;
  for (const int tile : {0, 1, 2, 3}) config.Set(tile, rows, kColumns * sizeof(float));
  config.Set(4, rows, kStep * sizeof(Bf16));
  config.Set(5, kStep / 2, kColumns * 2 * sizeof(Bf16));
  FenceTiles();
  _tile_loadconfig(&config);
  FenceTiles();
}

STRATA_AMX void ReleaseTiles() { _tile_release(); }

// Scores of a block's positions. queries: [rows, dim]; scores: [rows, stride], of the block.
STRATA_AMX inline void Score(const Bf16* keys, int64_t dim, const Bf16* queries, int64_t stride,
                             float* scores) {
  _tile_zero(0);
  for (int64_t d = 0; d < dim; d += kStep) {
    _tile_loadd(4, queries + d, dim * sizeof(Bf16));
    _tile_loadd(5, keys + d * kPageTokens, kColumns * 2 * sizeof(Bf16));
    _tile_dpbf16ps(0, 4, 5);
  }
  _tile_stored(0, scores, stride * sizeof(float));
}

// Adds the values of blocks [begin, end) times their weights to kTiles * kColumns dimensions.
// values(block): from the first of these dimensions on; weights: [rows, stride]; sums: [rows, dim],
// of the first of these dimensions.
template <int kTiles, typename Values>
STRATA_AMX inline void AddValues(int64_t begin, int64_t end, const Values& values, int64_t dim,
                                 const Bf16* weights, int64_t stride, float* sums) {
  static_assert(kTiles == 1 || kTiles == 4);
  const auto bytes = static_cast<int64_t>(dim * sizeof(float));
  _tile_loadd(0, sums, bytes);
  if constexpr (kTiles == 4) {
    _tile_loadd(1, sums + kColumns, bytes);
    _tile_loadd(2, sums + 2 * kColumns, bytes);
    _tile_loadd(3, sums + 3 * kColumns, bytes);
  }
  for (int64_t block = begin; block < end; ++block) {
    const Bf16* const from = values(block);
    const auto line = static_cast<int64_t>(dim * 2 * sizeof(Bf16));
    _tile_loadd(4, weights + block * kPageTokens, stride * sizeof(Bf16));
    _tile_loadd(5, from, line);
    _tile_dpbf16ps(0, 4, 5);
    if constexpr (kTiles == 4) {
      _tile_loadd(5, from + 2 * kColumns, line);
      _tile_dpbf16ps(1, 4, 5);
      _tile_loadd(5, from + 4 * kColumns, line);
      _tile_dpbf16ps(2, 4, 5);
      _tile_loadd(5, from + 6 * kColumns, line);
      _tile_dpbf16ps(3, 4, 5);
    }
  }
  _tile_stored(0, sums, bytes);
  if constexpr (kTiles == 4) {
    _tile_stored(1, sums + kColumns, bytes);
    _tile_stored(2, sums + 2 * kColumns, bytes);
    _tile_stored(3, sums + 3 * kColumns, bytes);
  }
}

// The same in all dimensions. values(block, d): the block, to be read from dimension d on.
template <typename Values>
STRATA_AMX inline void AddAllValues(int64_t begin, int64_t end, const Values& values, int64_t dim,
                                    const Bf16* weights, int64_t stride, float* sums) {
  int64_t d = 0;
  const auto from = [&](int64_t block) { return values(block, d) + 2 * d; };
  for (; d + 4 * kColumns <= dim; d += 4 * kColumns) {
    AddValues<4>(begin, end, from, dim, weights, stride, sums + d);
  }
  for (; d < dim; d += kColumns) {
    AddValues<1>(begin, end, from, dim, weights, stride, sums + d);
  }
}

// Scores of `length` positions become weights in bf16, with zeros to the end of the block, in the
// place of the first half of them; returns 1 / their sum.
STRATA_AMX float ToWeights(int64_t length, float* scores) {
  constexpr int kWidth = 16;
  using F32 = Vectors<kWidth>::F32;
  const int64_t whole_length = length / kWidth * kWidth;
  const auto in = Vectors<kWidth>::kLane < static_cast<int32_t>(length - whole_length);
  F32 highest, s;
  Fill(-std::numeric_limits<float>::infinity(), highest);
  for (int64_t begin = 0; begin < whole_length; begin += kWidth) {
    Load(scores + begin, s);
    highest = s > highest ? s : highest;
  }
  if (whole_length < length) {
    Load(scores + whole_length, s);
    const F32 greater = s > highest ? s : highest;
    highest = in ? greater : highest;
  }
  const float top = Greatest(highest);

  auto* const weights = reinterpret_cast<unsigned char*>(scores);
  const auto store = [&](int64_t begin, const F32& weight) STRATA_AMX {
    const __m256bh rounded = _mm512_cvtneps_pbh(weight);
    std::memcpy(weights + begin * sizeof(Bf16), &rounded, sizeof(rounded));
  };
  F32 sum{}, e;
  for (int64_t begin = 0; begin < whole_length; begin += kWidth) {
    Load(scores + begin, s);
    const F32 shifted = s - top;
    Exp(shifted, e);
    sum += e;
    store(begin, e);
  }
  if (whole_length < length) {
    Load(scores + whole_length, s);
    const F32 shifted = s - top;
    Exp(shifted, e);
    e = in ? e : F32{};
    sum += e;
    store(whole_length, e);
  }
  return 1.0f / Sum(sum);
}

// Up to kTileRows heads of all rows together. Blocks that a row lacks in part, or has scattered,
// are computed for each row alone, with the same operations.
template <typename Out>
STRATA_AMX void AttendHeads(const JointRows<Bf16, Out>& joint, int64_t first, int64_t heads,
                            int64_t& configured_rows) {
  const HeadCache<Bf16>& head = joint.head;
  const int64_t dim = head.head_dim;
  const int64_t stride = joint.stride;
  const auto count = static_cast<int64_t>(joint.rows.size());
  alignas(64) Bf16 queries[kTileRows * kMaxHeadDim];
  alignas(64) float sums[kTileRows * kMaxHeadDim];
  alignas(64) Bf16 buffer[kMaxHeadDim * kPageTokens];

  int64_t whole_blocks = std::numeric_limits<int64_t>::max();
  for (int64_t r = 0; r < count; ++r) {
    const AttentionRow& row = joint.rows[r];
    whole_blocks = std::min(whole_blocks, std::min(row.direct, row.position + 1) / kPageTokens);
    const float* const q = joint.q + row.row * joint.width + first * dim;
    for (int64_t i = 0; i < heads * dim; i += kLanes) {
      F32x8 x;
      Load(q + i, x);
      Store(x, queries + r * heads * dim + i);
    }
  }
  const std::span<const int32_t> pages = joint.rows.front().pages;

  Configure(count * heads, configured_rows);
  FenceTiles();
  for (int64_t block = 0; block < whole_blocks; ++block) {
    if (block + 1 < whole_blocks) head.Fetch(head.Keys(pages[block + 1]));
    Score(head.Keys(pages[block]), dim, queries, stride, joint.scores + block * kPageTokens);
  }
  // Scores past a row's position are masked; keys must only be readable.
  std::memset(buffer, 0, static_cast<size_t>(dim) * sizeof(Bf16) * kPageTokens);
  for (int64_t r = 0; r < count; ++r) {
    const AttentionRow& row = joint.rows[r];
    for (int64_t begin = whole_blocks * kPageTokens; begin <= row.position; begin += kPageTokens) {
      Configure(heads, configured_rows);
      const Bf16* const keys = head.FindKeys(row, begin, buffer);
      FenceTiles();
      Score(keys, dim, queries + r * heads * dim, stride,
            joint.scores + r * heads * stride + begin);
      FenceTiles();
    }
  }
  FenceTiles();

  float inverse_sum[kTileRows];
  for (int64_t i = 0; i < count * heads; ++i) {
    inverse_sum[i] = ToWeights(joint.rows[i / heads].position + 1, joint.scores + i * stride);
  }
  const auto* const weights = reinterpret_cast<const Bf16*>(joint.scores);
  const int64_t weights_stride = 2 * stride;

  std::memset(sums, 0, static_cast<size_t>(count * heads * dim) * sizeof(float));
  Configure(count * heads, configured_rows);
  FenceTiles();
  AddAllValues(
      0, whole_blocks,
      [&](int64_t block, int64_t d) {
        if (d == 0 && block + 1 < whole_blocks) head.Fetch(head.Values(pages[block + 1]));
        return head.Values(pages[block]);
      },
      dim, weights, weights_stride, sums);
  for (int64_t r = 0; r < count; ++r) {
    const AttentionRow& row = joint.rows[r];
    for (int64_t begin = whole_blocks * kPageTokens; begin <= row.position; begin += kPageTokens) {
      Configure(heads, configured_rows);
      const Bf16* const values = head.FindValues(row, begin, buffer);
      const int64_t block = begin / kPageTokens;
      FenceTiles();
      AddAllValues(
          block, block + 1, [&](int64_t, int64_t) { return values; }, dim,
          weights + r * heads * weights_stride, weights_stride, sums + r * heads * dim);
      FenceTiles();
    }
  }
  FenceTiles();

  for (int64_t r = 0; r < count; ++r) {
    Out* const out = joint.out + joint.rows[r].row * joint.width + first * dim;
    for (int64_t i = 0; i < heads * dim; i += kLanes) {
      F32x8 sum;
      Load(sums + r * heads * dim + i, sum);
      sum = sum * inverse_sum[r * heads + i / dim];
      StoreRounded<Bf16>(sum, out + i);
    }
  }
}

template <typename Out>
void Attend(const JointRows<Bf16, Out>& joint, int64_t first, int64_t end,
            int64_t& configured_rows) {
  for (; first < end; first += kTileRows) {
    AttendHeads(joint, first, std::min(kTileRows, end - first), configured_rows);
  }
}

}  // namespace

TileAttention::~TileAttention() {
  if (configured_rows_ > 0) ReleaseTiles();
}

void TileAttention::Run(const JointRows<Bf16, Bf16>& joint, int64_t first, int64_t end) {
  Attend(joint, first, end, configured_rows_);
}
void TileAttention::Run(const JointRows<Bf16, float>& joint, int64_t first, int64_t end) {
  Attend(joint, first, end, configured_rows_);
}

#else

TileAttention::~TileAttention() = default;
void TileAttention::Run(const JointRows<Bf16, Bf16>&, int64_t, int64_t) {}
void TileAttention::Run(const JointRows<Bf16, float>&, int64_t, int64_t) {}

#endif

}  // namespace strata::engine
