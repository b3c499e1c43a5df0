#include "services/verify/engine/attention.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "services/verify/engine/parallel.h"

namespace strata::engine {
namespace {

constexpr int kMaxHeadDim = 256;
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Query heads that share a KV head are taken in groups of up to four, so that a
// key or value is widened once for all and the sums form independent chains.
constexpr int kGroup = 4;

template <typename T>
struct Block {
  const T* keys = nullptr;       // [head_dim][kPageTokens]
  const T* values[kPageTokens];  // [head_dim] each
};

// The block of sixteen positions from `begin`; blocks that hold scattered tokens
// have their keys gathered into `buffer`.
template <typename T>
STRATA_INLINE void FindBlock(const AttentionRow& row, KvCache& cache, int64_t layer,
                             int64_t kv_head, int64_t head_dim, int64_t begin, T* buffer,
                             Block<T>& block) {
  const int64_t count = std::min<int64_t>(kPageTokens, row.position + 1 - begin);
  if (begin + count <= row.direct) {
    const int32_t page = row.pages[begin / kPageTokens];
    block.keys = reinterpret_cast<const T*>(cache.Keys(layer, page, kv_head));
    const T* values = reinterpret_cast<const T*>(cache.Values(layer, page, kv_head));
    for (int64_t i = 0; i < count; ++i) block.values[i] = values + i * head_dim;
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    const int64_t position = begin + i;
    int32_t page;
    int64_t slot;
    if (position < row.direct) {
      page = row.pages[position / kPageTokens];
      slot = position % kPageTokens;
    } else {
      const int32_t at = row.scattered[position - row.direct];
      page = at / kPageTokens;
      slot = at % kPageTokens;
    }
    const T* keys = reinterpret_cast<const T*>(cache.Keys(layer, page, kv_head));
    for (int64_t d = 0; d < head_dim; ++d) {
      buffer[d * kPageTokens + i] = keys[d * kPageTokens + slot];
    }
    block.values[i] =
        reinterpret_cast<const T*>(cache.Values(layer, page, kv_head)) + slot * head_dim;
  }
  block.keys = buffer;
}

// Adds to dimensions [d, d + kVectors * kWidth) of N heads' accumulators.
template <typename T, int N, int kWidth, int kVectors>
STRATA_INLINE void AddValues(const Block<T>& block, int64_t count, int64_t d, const float* scores,
                             int64_t stride, float (*accumulator)[kMaxHeadDim]) {
  using F32 = typename Vectors<kWidth>::F32;
  F32 sums[N][kVectors];
#pragma GCC unroll 4
  for (int h = 0; h < N; ++h) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) Load(&accumulator[h][d + v * kWidth], sums[h][v]);
  }
  for (int64_t i = 0; i < count; ++i) {
    F32 values[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) Load(block.values[i] + d + v * kWidth, values[v]);
#pragma GCC unroll 4
    for (int h = 0; h < N; ++h) {
      const float w = scores[h * stride + i];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sums[h][v] += values[v] * w;
    }
  }
#pragma GCC unroll 4
  for (int h = 0; h < N; ++h) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) Store(sums[h][v], &accumulator[h][d + v * kWidth]);
  }
}

// One row, N query heads that share a KV head, in vectors of kWidth lanes: a position's or a
// dimension's result is the same with any. scores: [N][blocks * kPageTokens].
template <typename T, int N, int kWidth>
STRATA_INLINE void AttendHeads(const AttentionRow& row, KvCache& cache, int64_t layer,
                               int64_t kv_head, int64_t head_dim, const float* q, float* scores,
                               T* out) {
  using F32 = typename Vectors<kWidth>::F32;
  using I32 = typename Vectors<kWidth>::I32;
  const int64_t length = row.position + 1;
  const int64_t blocks = (length + kPageTokens - 1) / kPageTokens;
  const int64_t stride = blocks * kPageTokens;
  alignas(64) T buffer[kMaxHeadDim * kPageTokens];
  // Lanes past the row's position are masked below; they must only be readable.
  Block<T> block;

  F32 highest[N];
#pragma GCC unroll 4
  for (int h = 0; h < N; ++h) Fill(kMinusInfinity, highest[h]);
  F32 minus_infinity;
  Fill(kMinusInfinity, minus_infinity);

  bool buffer_clean = false;
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t begin = b * kPageTokens;
    if (!buffer_clean && std::min<int64_t>(begin + kPageTokens, length) > row.direct) {
      std::memset(buffer, 0, head_dim * kPageTokens * sizeof(T));
      buffer_clean = true;
    }
    FindBlock(row, cache, layer, kv_head, head_dim, begin, buffer, block);
    const int32_t valid = static_cast<int32_t>(std::min<int64_t>(kPageTokens, length - begin));
    for (int first = 0; first < kPageTokens; first += kWidth) {
      F32 even[N], odd[N];
#pragma GCC unroll 4
      for (int h = 0; h < N; ++h) even[h] = odd[h] = F32{};
      for (int64_t d = 0; d < head_dim; d += 2) {
        F32 k0, k1;
        Load(block.keys + d * kPageTokens + first, k0);
        Load(block.keys + (d + 1) * kPageTokens + first, k1);
#pragma GCC unroll 4
        for (int h = 0; h < N; ++h) {
          even[h] += k0 * q[h * head_dim + d];
          odd[h] += k1 * q[h * head_dim + d + 1];
        }
      }
      const I32 in = Vectors<kWidth>::kLane < valid - first;
#pragma GCC unroll 4
      for (int h = 0; h < N; ++h) {
        F32 s = even[h] + odd[h];
        s = in ? s : minus_infinity;
        highest[h] = s > highest[h] ? s : highest[h];
        Store(s, scores + h * stride + begin + first);
      }
    }
  }

  // In eight lanes with either width, for their sum's order.
  float inverse_sum[N];
  for (int h = 0; h < N; ++h) {
    float top = kMinusInfinity;
    for (int i = 0; i < kWidth; ++i) top = std::max(top, highest[h][i]);
    F32x8 sum{};
    for (int64_t begin = 0; begin < stride; begin += kLanes) {
      float* at = scores + h * stride + begin;
      F32x8 s, e;
      Load(at, s);
      const F32x8 shifted = s - top;
      Exp(shifted, e);
      const int32_t valid = static_cast<int32_t>(std::clamp<int64_t>(length - begin, 0, kLanes));
      e = Vectors<kLanes>::kLane < valid ? e : F32x8{};
      sum += e;
      Store(e, at);
    }
    inverse_sum[h] = 1.0f / Sum(sum);
  }

  alignas(64) float accumulator[N][kMaxHeadDim];
  for (int h = 0; h < N; ++h) std::memset(accumulator[h], 0, head_dim * sizeof(float));
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t begin = b * kPageTokens;
    const int64_t count = std::min<int64_t>(kPageTokens, length - begin);
    FindBlock(row, cache, layer, kv_head, head_dim, begin, buffer, block);
    int64_t d = 0;
    // Two vectors of values at a time: more independent sums than one. Head dimensions are
    // multiples of 16.
    for (; d + 2 * kWidth <= head_dim; d += 2 * kWidth) {
      AddValues<T, N, kWidth, 2>(block, count, d, scores + begin, stride, accumulator);
    }
    if (d < head_dim) {
      AddValues<T, N, kWidth, 1>(block, count, d, scores + begin, stride, accumulator);
    }
  }
  for (int h = 0; h < N; ++h) {
    for (int64_t d = 0; d < head_dim; d += kLanes) {
      F32x8 a;
      Load(&accumulator[h][d], a);
      a = a * inverse_sum[h];
      Store(a, out + h * head_dim + d);
    }
  }
}

// All query heads of one KV head.
template <typename T, int kWidth>
STRATA_INLINE void AttendGroup(const AttentionRow& row, KvCache& cache, int64_t layer,
                               int64_t kv_head, const AttentionShape& shape, const float* q,
                               float* scores, T* out) {
  const int64_t share = shape.heads / shape.kv_heads;
  const int64_t dim = shape.head_dim;
  int64_t h = 0;
  // Which group a head is in depends on the model alone, and each head's
  // arithmetic on neither: heads never mix.
  for (; h + kGroup <= share; h += kGroup) {
    AttendHeads<T, kGroup, kWidth>(row, cache, layer, kv_head, dim, q + h * dim, scores,
                                   out + h * dim);
  }
  switch (share - h) {
    case 3:
      AttendHeads<T, 3, kWidth>(row, cache, layer, kv_head, dim, q + h * dim, scores,
                                out + h * dim);
      break;
    case 2:
      AttendHeads<T, 2, kWidth>(row, cache, layer, kv_head, dim, q + h * dim, scores,
                                out + h * dim);
      break;
    case 1:
      AttendHeads<T, 1, kWidth>(row, cache, layer, kv_head, dim, q + h * dim, scores,
                                out + h * dim);
      break;
    default:
      break;
  }
}

STRATA_CLONES void AttendF32(const AttentionRow& row, KvCache& cache, int64_t layer,
                             int64_t kv_head, const AttentionShape& shape, const float* q,
                             float* scores, float* out) {
  AttendGroup<float, 8>(row, cache, layer, kv_head, shape, q, scores, out);
}
STRATA_CLONES void AttendBf16(const AttentionRow& row, KvCache& cache, int64_t layer,
                              int64_t kv_head, const AttentionShape& shape, const float* q,
                              float* scores, Bf16* out) {
  AttendGroup<Bf16, 8>(row, cache, layer, kv_head, shape, q, scores, out);
}
#if defined(__x86_64__)
template <typename T>
STRATA_AVX512 void AttendAvx512(const AttentionRow& row, KvCache& cache, int64_t layer,
                                int64_t kv_head, const AttentionShape& shape, const float* q,
                                float* scores, T* out) {
  AttendGroup<T, 16>(row, cache, layer, kv_head, shape, q, scores, out);
}
#endif

template <typename T>
using AttendFunction = void (*)(const AttentionRow& row, KvCache& cache, int64_t layer,
                                int64_t kv_head, const AttentionShape& shape, const float* q,
                                float* scores, T* out);
template <typename T>
AttendFunction<T> Attend() {
#if defined(__x86_64__)
  if (HasAvx512()) return &AttendAvx512<T>;
#endif
  if constexpr (sizeof(T) == sizeof(float)) {
    return &AttendF32;
  } else {
    return &AttendBf16;
  }
}

}  // namespace

template <typename T>
void PagedAttention(const AttentionShape& shape, int64_t layer, std::span<const AttentionRow> rows,
                    const float* q, KvCache& cache, T* out) {
  const int64_t items = static_cast<int64_t>(rows.size()) * shape.kv_heads;
  const int64_t share = shape.heads / shape.kv_heads;
  const int64_t width = shape.heads * shape.head_dim;
  int64_t work = 0;
  for (const AttentionRow& row : rows) work += (row.position + 1) * width;
  // About 10 multiply-adds a nanosecond: below some microseconds a barrier costs more.
  const int64_t grain = work < (1 << 16) ? items : 1;
  const AttendFunction<T> attend = Attend<T>();
  ParallelFor(items, grain, [&](int64_t begin, int64_t end) {
    thread_local std::vector<float> scores;
    for (int64_t i = begin; i < end; ++i) {
      const AttentionRow& row = rows[i / shape.kv_heads];
      const int64_t kv_head = i % shape.kv_heads;
      const size_t need = kGroup * ((row.position / kPageTokens + 1) * kPageTokens);
      if (scores.size() < need) scores.resize(need);
      const int64_t at = row.row * width + kv_head * share * shape.head_dim;
      attend(row, cache, layer, kv_head, shape, q + at, scores.data(), out + at);
    }
  });
}

template void PagedAttention(const AttentionShape&, int64_t, std::span<const AttentionRow>,
                             const float*, KvCache&, float*);
template void PagedAttention(const AttentionShape&, int64_t, std::span<const AttentionRow>,
                             const float*, KvCache&, Bf16*);

}  // namespace strata::engine
