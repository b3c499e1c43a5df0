#include "services/verify/engine/attention.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <numeric>

#include "services/verify/engine/config.h"
#include "services/verify/engine/parallel.h"

namespace strata::engine {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Query heads that share a KV head are taken in groups of up to four, so that a
// key or value is widened once for all and the sums form independent chains.
constexpr int kGroup = 4;

// Rows that share their pages, as those of a draft tree or of a prompt, are taken together: most,
// and most scores of theirs that a thread keeps.
constexpr int64_t kJointRows = 8;
constexpr int64_t kMostScores = int64_t{1} << 19;

// About 10 multiply-adds a nanosecond: below some microseconds a barrier costs more.
constexpr double kLittleWork = 1 << 16;

// What an item costs besides its keys and values, in positions of a row among many.
constexpr double kItemPositions = 16;

// Where the values of sixteen positions are, [head_dim] each.
template <typename T>
using ValuePlaces = std::array<const T*, kPageTokens>;

// How many of the row's positions lie in the block of kPageTokens from `begin`.
STRATA_INLINE int64_t BlockLength(const AttentionRow& row, int64_t begin) {
  return std::min<int64_t>(kPageTokens, row.position + 1 - begin);
}

// Where the rows of the sequence of rows[first] end.
size_t SequenceEnd(std::span<const AttentionRow> rows, size_t first) {
  size_t last = first + 1;
  while (last < rows.size() && rows[last].pages.data() == rows[first].pages.data()) ++last;
  return last;
}

// Whether the row has all positions of the block from `begin`, none of them scattered.
STRATA_INLINE bool IsWhole(const AttentionRow& row, int64_t begin) {
  return begin + kPageTokens <= std::min(row.direct, row.position + 1);
}

// The slot of a position, by page and place in it.
STRATA_INLINE int32_t SlotOf(const AttentionRow& row, int64_t position) {
  return position < row.direct ? row.pages[position / kPageTokens] * kPageTokens +
                                     static_cast<int32_t>(position % kPageTokens)
                               : row.scattered[position - row.direct];
}

// One KV head of a layer's cache.
template <typename T>
struct HeadCache {
  KvCache& cache;
  int64_t layer;
  int64_t kv_head;
  int64_t head_dim;

  STRATA_INLINE const T* Keys(int32_t page) const {
    return reinterpret_cast<const T*>(cache.Keys(layer, page, kv_head));
  }
  STRATA_INLINE const T* Values(int32_t page) const {
    return reinterpret_cast<const T*>(cache.Values(layer, page, kv_head));
  }
  // Begins to load a page's keys or values.
  STRATA_INLINE void Fetch(const T* block) const {
    const char* const bytes = reinterpret_cast<const char*>(block);
    const int64_t size = head_dim * kPageTokens * static_cast<int64_t>(sizeof(T));
    for (int64_t at = 0; at < size; at += 64) __builtin_prefetch(bytes + at, 0, 3);
  }
  // Keys of the block from `begin`, [head_dim][kPageTokens]: a page of the cache or, where tokens
  // are scattered, `buffer` with those that the row has.
  STRATA_INLINE const T* FindKeys(const AttentionRow& row, int64_t begin, T* buffer) const {
    const int64_t count = BlockLength(row, begin);
    if (begin + count <= row.direct) return Keys(row.pages[begin / kPageTokens]);
    for (int64_t i = 0; i < count; ++i) {
      const int32_t at = SlotOf(row, begin + i);
      const T* keys = Keys(at / kPageTokens) + at % kPageTokens;
      for (int64_t d = 0; d < head_dim; ++d) buffer[d * kPageTokens + i] = keys[d * kPageTokens];
    }
    return buffer;
  }
  STRATA_INLINE void FindValues(const AttentionRow& row, int64_t begin,
                                ValuePlaces<T>& places) const {
    const int64_t count = BlockLength(row, begin);
    for (int64_t i = 0; i < count; ++i) {
      const int32_t at = SlotOf(row, begin + i);
      places[i] = Values(at / kPageTokens) + at % kPageTokens * head_dim;
    }
  }
};

// Rows of N heads that take a block of keys or values together, each widened once for all of them:
// as many as the registers of AVX-512 hold sums of.
template <int N, int kWidth>
constexpr int kBlockRows = kWidth == 16 ? (N == 4 ? 2 : 4) : 1;

// Adds to dimensions [d, d + kVectors * kWidth) of N heads' accumulators of kRows rows.
// scores: of the first row, the others' row_scores apart.
template <typename T, int N, int kWidth, int kRows, int kVectors>
STRATA_INLINE void AddValues(const ValuePlaces<T>& places, int64_t count, int64_t d,
                             const float* scores, int64_t row_scores, int64_t stride,
                             float (*accumulator)[N][kMaxHeadDim]) {
  using F32 = typename Vectors<kWidth>::F32;
  F32 sums[kRows][N][kVectors];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int h = 0; h < N; ++h) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) Load(&accumulator[r][h][d + v * kWidth], sums[r][h][v]);
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    F32 values[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) Load(places[i] + d + v * kWidth, values[v]);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int h = 0; h < N; ++h) {
        const float w = scores[r * row_scores + h * stride + i];
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) sums[r][h][v] += values[v] * w;
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int h = 0; h < N; ++h) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) Store(sums[r][h][v], &accumulator[r][h][d + v * kWidth]);
    }
  }
}

// Two vectors of values at a time: more independent sums than one. Head dimensions are multiples of
// 16.
template <typename T, int N, int kWidth, int kRows>
STRATA_INLINE void AddBlock(const ValuePlaces<T>& places, int64_t count, int64_t head_dim,
                            const float* scores, int64_t row_scores, int64_t stride,
                            float (*accumulator)[N][kMaxHeadDim]) {
  int64_t d = 0;
  for (; d + 2 * kWidth <= head_dim; d += 2 * kWidth) {
    AddValues<T, N, kWidth, kRows, 2>(places, count, d, scores, row_scores, stride, accumulator);
  }
  if (d < head_dim) {
    AddValues<T, N, kWidth, kRows, 1>(places, count, d, scores, row_scores, stride, accumulator);
  }
}

// Scores of a block's positions for kRows rows: q times keys, minus infinity past the rows'
// positions. q: by row; scores: of the first row, the others' row_scores apart.
template <typename T, int N, int kWidth, int kRows>
STRATA_INLINE void ScoreBlock(const T* keys, int64_t count, int64_t head_dim,
                              const float* const (&q)[kRows], int64_t row_scores, int64_t stride,
                              float* scores, typename Vectors<kWidth>::F32 (*highest)[N]) {
  using F32 = typename Vectors<kWidth>::F32;
  using I32 = typename Vectors<kWidth>::I32;
  F32 minus_infinity;
  Fill(kMinusInfinity, minus_infinity);
  for (int first = 0; first < kPageTokens; first += kWidth) {
    F32 even[kRows][N], odd[kRows][N];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int h = 0; h < N; ++h) even[r][h] = odd[r][h] = F32{};
    }
    for (int64_t d = 0; d < head_dim; d += 2) {
      F32 k0, k1;
      Load(keys + d * kPageTokens + first, k0);
      Load(keys + (d + 1) * kPageTokens + first, k1);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
        for (int h = 0; h < N; ++h) {
          even[r][h] += k0 * q[r][h * head_dim + d];
          odd[r][h] += k1 * q[r][h * head_dim + d + 1];
        }
      }
    }
    const I32 in = Vectors<kWidth>::kLane < static_cast<int32_t>(count) - first;
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int h = 0; h < N; ++h) {
        F32 s = even[r][h] + odd[r][h];
        s = in ? s : minus_infinity;
        highest[r][h] = s > highest[r][h] ? s : highest[r][h];
        Store(s, scores + r * row_scores + h * stride + first);
      }
    }
  }
}

// Scores of `length` positions become weights; returns 1 / their sum. In eight lanes, for the sum's
// order.
STRATA_INLINE float ToWeights(float top, int64_t length, float* scores) {
  F32x8 sum{};
  for (int64_t begin = 0; begin < length; begin += kLanes) {
    F32x8 s, e;
    Load(scores + begin, s);
    const F32x8 shifted = s - top;
    Exp(shifted, e);
    const auto valid = static_cast<int32_t>(std::min<int64_t>(length - begin, kLanes));
    e = Vectors<kLanes>::kLane < valid ? e : F32x8{};
    sum += e;
    Store(e, scores + begin);
  }
  return 1.0f / Sum(sum);
}

// Rows that share their pages, and the query heads of one KV head.
template <typename T, typename Out>
struct Joint {
  std::span<const AttentionRow> rows;  // at most kJointRows
  const HeadCache<T>& head;
  int64_t width;   // of a row of q and out
  int64_t stride;  // of a head's scores
  const float* q;  // of row 0
  float* scores;
  Out* out;  // of row 0
};

// N query heads from `first`, in vectors of kWidth lanes: a position's or a dimension's result is
// the same with any. Each block of keys or values serves all rows while it is in L1; what is
// computed for one of them does not depend on the others.
template <typename T, typename Out, int N, int kWidth>
STRATA_INLINE void AttendHeads(const Joint<T, Out>& joint, int64_t first) {
  using F32 = typename Vectors<kWidth>::F32;
  const HeadCache<T>& head = joint.head;
  const int64_t dim = head.head_dim;
  const auto count = static_cast<int64_t>(joint.rows.size());
  const auto q = [&](int64_t r) { return joint.q + joint.rows[r].row * joint.width + first * dim; };
  const int64_t row_scores = N * joint.stride;
  const auto scores = [&](int64_t r) { return joint.scores + r * row_scores; };
  constexpr int kRows = kBlockRows<N, kWidth>;
  // Whether so many rows from r have all positions of the block, none of them scattered.
  const auto whole = [&](int64_t r, int64_t begin) {
    if (r + kRows > count) return false;
    const auto rows = joint.rows.subspan(r, kRows);
    return std::all_of(rows.begin(), rows.end(),
                       [&](const AttentionRow& row) { return IsWhole(row, begin); });
  };
  int64_t longest = 0;
  for (const AttentionRow& row : joint.rows) longest = std::max(longest, row.position + 1);

  // Lanes past a row's position are masked; they must only be readable.
  alignas(64) T buffer[kMaxHeadDim * kPageTokens];
  std::memset(buffer, 0, dim * kPageTokens * sizeof(T));
  F32 highest[kJointRows][N];
  for (int64_t r = 0; r < count; ++r) {
#pragma GCC unroll 4
    for (int h = 0; h < N; ++h) Fill(kMinusInfinity, highest[r][h]);
  }
  for (int64_t begin = 0; begin < longest; begin += kPageTokens) {
    if (const int64_t next = begin + kPageTokens; IsWhole(joint.rows[0], next)) {
      head.Fetch(head.Keys(joint.rows[0].pages[next / kPageTokens]));
    }
    for (int64_t r = 0; r < count;) {
      const AttentionRow& row = joint.rows[r];
      if (kRows > 1 && whole(r, begin)) {
        const float* queries[kRows];
        for (int i = 0; i < kRows; ++i) queries[i] = q(r + i);
        ScoreBlock<T, N, kWidth, kRows>(head.Keys(row.pages[begin / kPageTokens]), kPageTokens, dim,
                                        queries, row_scores, joint.stride, scores(r) + begin,
                                        highest + r);
        r += kRows;
        continue;
      }
      if (begin <= row.position) {
        const float* const queries[] = {q(r)};
        ScoreBlock<T, N, kWidth, 1>(head.FindKeys(row, begin, buffer), BlockLength(row, begin), dim,
                                    queries, row_scores, joint.stride, scores(r) + begin,
                                    highest + r);
      }
      ++r;
    }
  }

  alignas(64) float accumulator[kJointRows][N][kMaxHeadDim];
  float inverse_sum[kJointRows][N];
  for (int64_t r = 0; r < count; ++r) {
    for (int h = 0; h < N; ++h) {
      float top = kMinusInfinity;
      for (int i = 0; i < kWidth; ++i) top = std::max(top, highest[r][h][i]);
      inverse_sum[r][h] = ToWeights(top, joint.rows[r].position + 1, scores(r) + h * joint.stride);
      std::memset(accumulator[r][h], 0, dim * sizeof(float));
    }
  }

  ValuePlaces<T> shared, own;
  for (int64_t begin = 0; begin < longest; begin += kPageTokens) {
    bool found = false;
    if (const int64_t next = begin + kPageTokens; IsWhole(joint.rows[0], next)) {
      head.Fetch(head.Values(joint.rows[0].pages[next / kPageTokens]));
    }
    for (int64_t r = 0; r < count;) {
      const AttentionRow& row = joint.rows[r];
      const bool is_whole = IsWhole(row, begin);
      if (is_whole && !found) {
        head.FindValues(row, begin, shared);
        found = true;
      }
      if (kRows > 1 && whole(r, begin)) {
        AddBlock<T, N, kWidth, kRows>(shared, kPageTokens, dim, scores(r) + begin, row_scores,
                                      joint.stride, accumulator + r);
        r += kRows;
        continue;
      }
      if (begin <= row.position) {
        if (!is_whole) head.FindValues(row, begin, own);
        AddBlock<T, N, kWidth, 1>(is_whole ? shared : own, BlockLength(row, begin), dim,
                                  scores(r) + begin, row_scores, joint.stride, accumulator + r);
      }
      ++r;
    }
  }
  for (int64_t r = 0; r < count; ++r) {
    Out* const out = joint.out + joint.rows[r].row * joint.width + first * dim;
    for (int h = 0; h < N; ++h) {
      for (int64_t d = 0; d < dim; d += kLanes) {
        F32x8 a;
        Load(&accumulator[r][h][d], a);
        a = a * inverse_sum[r][h];
        StoreRounded<T>(a, out + h * dim + d);
      }
    }
  }
}

// The query heads [first, end), which share a KV head.
template <typename T, typename Out, int kWidth>
STRATA_INLINE void AttendGroup(const Joint<T, Out>& joint, int64_t first, int64_t end) {
  // Which group a head is in depends on the model alone, and each head's
  // arithmetic on neither: heads never mix.
  for (; first + kGroup <= end; first += kGroup) {
    AttendHeads<T, Out, kGroup, kWidth>(joint, first);
  }
  switch (end - first) {
    case 3:
      AttendHeads<T, Out, 3, kWidth>(joint, first);
      break;
    case 2:
      AttendHeads<T, Out, 2, kWidth>(joint, first);
      break;
    case 1:
      AttendHeads<T, Out, 1, kWidth>(joint, first);
      break;
    default:
      break;
  }
}

STRATA_CLONES void AttendClone(const Joint<float, float>& joint, int64_t first, int64_t end) {
  AttendGroup<float, float, 8>(joint, first, end);
}
STRATA_CLONES void AttendClone(const Joint<Bf16, Bf16>& joint, int64_t first, int64_t end) {
  AttendGroup<Bf16, Bf16, 8>(joint, first, end);
}
STRATA_CLONES void AttendClone(const Joint<Bf16, float>& joint, int64_t first, int64_t end) {
  AttendGroup<Bf16, float, 8>(joint, first, end);
}
#if defined(__x86_64__)
template <typename T, typename Out>
STRATA_AVX512 void AttendAvx512(const Joint<T, Out>& joint, int64_t first, int64_t end) {
  AttendGroup<T, Out, 16>(joint, first, end);
}
#endif

template <typename T, typename Out>
void Attend(const Joint<T, Out>& joint, int64_t first, int64_t end) {
#if defined(__x86_64__)
  if (HasAvx512()) {
    AttendAvx512(joint, first, end);
    return;
  }
#endif
  AttendClone(joint, first, end);
}

}  // namespace

AttentionScratch::AttentionScratch(const AttentionShape& shape, std::span<const AttentionRow> rows,
                                   int threads) {
  for (const AttentionRow& row : rows) {
    stride_ = std::max(stride_, (row.position / kPageTokens + 1) * kPageTokens);
  }
  const int64_t row_scores = kGroup * std::max<int64_t>(stride_, 1);
  joint_rows_ = std::clamp<int64_t>(kMostScores / row_scores, 1, kJointRows);
  scores_.resize(static_cast<size_t>(joint_rows_ * row_scores * threads));
  Share(shape, rows, static_cast<size_t>(threads));
}

void AttentionScratch::Share(const AttentionShape& shape, std::span<const AttentionRow> rows,
                             size_t parts) {
  std::vector<double> costs;
  costs.reserve(rows.size() * static_cast<size_t>(shape.kv_heads));
  double positions = 0;
  for (size_t first = 0; first < rows.size();) {
    const size_t last = SequenceEnd(rows, first);
    // Keys and values are read once for the rows that are taken together, which takes as long as to
    // compute with them for one of those.
    const double reading =
        1.0 / static_cast<double>(std::min(static_cast<int64_t>(last - first), joint_rows_));
    for (int64_t kv_head = 0; kv_head < shape.kv_heads; ++kv_head) {
      for (const AttentionRow& row : rows.subspan(first, last - first)) {
        const auto length = static_cast<double>(row.position + 1);
        costs.push_back(length * (1 + reading) + kItemPositions);
        positions += length;
      }
    }
    first = last;
  }
  const int64_t width = shape.heads / shape.kv_heads * shape.head_dim;
  little_ = positions * static_cast<double>(width) < kLittleWork;
  const double all = std::reduce(costs.begin(), costs.end());
  double before = 0;
  part_begins_.assign(1, 0);
  for (size_t i = 0; i < costs.size(); ++i) {
    // It belongs to the part in which its middle lies.
    const auto part =
        static_cast<size_t>((before + costs[i] / 2) / all * static_cast<double>(parts));
    while (part_begins_.size() <= std::min(part, parts - 1)) {
      part_begins_.push_back(static_cast<int64_t>(i));
    }
    before += costs[i];
  }
  part_begins_.resize(parts + 1, static_cast<int64_t>(costs.size()));
}

float* AttentionScratch::scores() {
  return scores_.data() + joint_rows_ * kGroup * stride_ * ThreadIndex();
}

template <typename T, typename Out>
void PagedAttention(const AttentionShape& shape, int64_t layer, std::span<const AttentionRow> rows,
                    const float* q, KvCache& cache, AttentionScratch& scratch, Out* out) {
  const auto row_count = static_cast<int64_t>(rows.size());
  const int64_t share = shape.heads / shape.kv_heads;
  const int64_t width = shape.heads * shape.head_dim;
  const int64_t grain = scratch.little() ? scratch.parts() : 1;
  ParallelFor(scratch.parts(), grain, Work::kAttention, [&](int64_t begin_part, int64_t end_part) {
    float* const scores = scratch.scores();
    const int64_t begin = scratch.part(begin_part);
    const int64_t end = scratch.part(end_part);
    int64_t first = 0;
    while (first < row_count && first * shape.kv_heads < end) {
      const auto last = static_cast<int64_t>(SequenceEnd(rows, static_cast<size_t>(first)));
      const int64_t size = last - first;
      const int64_t items_end = std::min(end, last * shape.kv_heads);
      for (int64_t i = std::max(begin, first * shape.kv_heads); i < items_end;) {
        const int64_t kv_head = (i - first * shape.kv_heads) / size;
        const int64_t at = (i - first * shape.kv_heads) % size;
        const int64_t count = std::min({size - at, items_end - i, scratch.joint_rows()});
        const HeadCache<T> head{cache, layer, kv_head, shape.head_dim};
        const Joint<T, Out> joint{
            rows.subspan(static_cast<size_t>(first + at), static_cast<size_t>(count)),
            head,
            width,
            scratch.stride(),
            q,
            scores,
            out};
        Attend(joint, kv_head * share, (kv_head + 1) * share);
        i += count;
      }
      first = last;
    }
  });
}

template void PagedAttention<float>(const AttentionShape&, int64_t, std::span<const AttentionRow>,
                                    const float*, KvCache&, AttentionScratch&, float*);
template void PagedAttention<Bf16>(const AttentionShape&, int64_t, std::span<const AttentionRow>,
                                   const float*, KvCache&, AttentionScratch&, Bf16*);
template void PagedAttention<Bf16>(const AttentionShape&, int64_t, std::span<const AttentionRow>,
                                   const float*, KvCache&, AttentionScratch&, float*);

}  // namespace strata::engine
