#include "services/verify/engine/vector_attention.h"

#include <algorithm>
#include <cstddef>
#include <limits>

#include "services/verify/engine/config.h"

namespace strata::engine {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr int kGroup = VectorAttention::kHeads;
constexpr int64_t kJointRows = VectorAttention::kRows;

// Rows of N heads that take a block of keys or values together, each widened once for all of them:
// as many as the registers of AVX-512 hold sums of.
template <int N, int kWidth>
constexpr int kBlockRows = kWidth == 16 ? (N == 4 ? 2 : 4) : 1;

// A pair of a block's lines (KvLayout), from element `first` of each: dimensions 2 i and 2 i + 1 of
// keys, or positions 2 i and 2 i + 1 of values.
template <typename F32>
STRATA_INLINE void LoadPair(const float* block, int64_t i, int64_t line, int64_t first, F32& even,
                            F32& odd) {
  Load(block + 2 * i * line + first, even);
  Load(block + (2 * i + 1) * line + first, odd);
}
template <typename F32>
STRATA_INLINE void LoadPair(const Bf16* block, int64_t i, int64_t line, int64_t first, F32& even,
                            F32& odd) {
  typename Vectors<sizeof(F32) / sizeof(float)>::U32 words;
  std::memcpy(&words, block + 2 * (i * line + first), sizeof(words));
  const auto low = words << 16;
  const auto high = words & 0xFFFF0000u;
  std::memcpy(&even, &low, sizeof(low));
  std::memcpy(&odd, &high, sizeof(high));
}

// Adds to dimensions [d, d + kVectors * kWidth) of N heads' accumulators of kRows rows.
// scores: of the first row, the others' row_scores apart; zero behind `count`, as values are.
template <typename T, int N, int kWidth, int kRows, int kVectors>
STRATA_INLINE void AddValues(const T* values, int64_t count, int64_t head_dim, int64_t d,
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
  for (int64_t i = 0; 2 * i < count; ++i) {
    F32 even[kVectors], odd[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      LoadPair(values, i, head_dim, d + v * kWidth, even[v], odd[v]);
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int h = 0; h < N; ++h) {
        const float* const weights = scores + r * row_scores + h * stride + 2 * i;
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) sums[r][h][v] += even[v] * weights[0];
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) sums[r][h][v] += odd[v] * weights[1];
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
STRATA_INLINE void AddBlock(const T* values, int64_t count, int64_t head_dim, const float* scores,
                            int64_t row_scores, int64_t stride,
                            float (*accumulator)[N][kMaxHeadDim]) {
  int64_t d = 0;
  for (; d + 2 * kWidth <= head_dim; d += 2 * kWidth) {
    AddValues<T, N, kWidth, kRows, 2>(values, count, head_dim, d, scores, row_scores, stride,
                                      accumulator);
  }
  if (d < head_dim) {
    AddValues<T, N, kWidth, kRows, 1>(values, count, head_dim, d, scores, row_scores, stride,
                                      accumulator);
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
      LoadPair(keys, d / 2, kPageTokens, first, k0, k1);
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

// N query heads from `first`, in vectors of kWidth lanes: a position's or a dimension's result is
// the same with any. Each block of keys or values serves all rows while it is in L1; what is
// computed for one of them does not depend on the others.
template <typename T, typename Out, int N, int kWidth>
STRATA_INLINE void AttendHeads(const JointRows<T, Out>& joint, int64_t first) {
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
      const float top = Greatest(highest[r][h]);
      inverse_sum[r][h] = ToWeights(top, joint.rows[r].position + 1, scores(r) + h * joint.stride);
      std::memset(accumulator[r][h], 0, dim * sizeof(float));
    }
  }

  for (int64_t begin = 0; begin < longest; begin += kPageTokens) {
    if (const int64_t next = begin + kPageTokens; IsWhole(joint.rows[0], next)) {
      head.Fetch(head.Values(joint.rows[0].pages[next / kPageTokens]));
    }
    for (int64_t r = 0; r < count;) {
      const AttentionRow& row = joint.rows[r];
      if (kRows > 1 && whole(r, begin)) {
        AddBlock<T, N, kWidth, kRows>(head.Values(row.pages[begin / kPageTokens]), kPageTokens, dim,
                                      scores(r) + begin, row_scores, joint.stride, accumulator + r);
        r += kRows;
        continue;
      }
      if (begin <= row.position) {
        AddBlock<T, N, kWidth, 1>(head.FindValues(row, begin, buffer), BlockLength(row, begin), dim,
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
STRATA_INLINE void AttendGroup(const JointRows<T, Out>& joint, int64_t first, int64_t end) {
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

STRATA_CLONES void AttendClone(const JointRows<float, float>& joint, int64_t first, int64_t end) {
  AttendGroup<float, float, 8>(joint, first, end);
}
STRATA_CLONES void AttendClone(const JointRows<Bf16, Bf16>& joint, int64_t first, int64_t end) {
  AttendGroup<Bf16, Bf16, 8>(joint, first, end);
}
STRATA_CLONES void AttendClone(const JointRows<Bf16, float>& joint, int64_t first, int64_t end) {
  AttendGroup<Bf16, float, 8>(joint, first, end);
}
#if defined(__x86_64__)
template <typename T, typename Out>
STRATA_AVX512 void AttendAvx512(const JointRows<T, Out>& joint, int64_t first, int64_t end) {
  AttendGroup<T, Out, 16>(joint, first, end);
}
#endif

template <typename T, typename Out>
void Attend(const JointRows<T, Out>& joint, int64_t first, int64_t end) {
#if defined(__x86_64__)
  if (HasAvx512()) {
    AttendAvx512(joint, first, end);
    return;
  }
#endif
  AttendClone(joint, first, end);
}

}  // namespace

void VectorAttention::Run(const JointRows<float, float>& joint, int64_t first, int64_t end) {
  Attend(joint, first, end);
}
void VectorAttention::Run(const JointRows<Bf16, Bf16>& joint, int64_t first, int64_t end) {
  Attend(joint, first, end);
}
void VectorAttention::Run(const JointRows<Bf16, float>& joint, int64_t first, int64_t end) {
  Attend(joint, first, end);
}

}  // namespace strata::engine
