#ifndef STRATA_SERVICES_VERIFY_ENGINE_CUDA_ATTENTION_H_
#define STRATA_SERVICES_VERIFY_ENGINE_CUDA_ATTENTION_H_

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "services/verify/engine/cuda/block.h"
#include "services/verify/engine/cuda/kv_layout.h"
#include "services/verify/engine/cuda/step.h"

// Attention over the paged KV cache, in fp32 (tensor_attention.h is for bf16), for rows of ragged
// batches and draft trees, as a kernel of one block (block.h): one row, and up to four query heads
// that share a KV head, so that a key or value is read once for all of them.
//
// Each warp takes every kWarps-th block of kPageTokens positions, copies its keys and values to
// shared memory from wherever they are stored, and goes on with an online softmax in fp32
// (Milakov and Gimelshein, arXiv 1805.02867); at the end the warps' states are merged, the first
// warp's first.
//
// Row invariance: which warp takes a position, and in which order, follows from the position
// alone, and after the copy nothing tells a page from a draft tree's scattered slots. So the
// result is a function of the query and of the keys and values along the row's path. Never split
// along the keys by batch or length.
namespace strata::engine::cuda {

inline constexpr int kMaxGroupHeads = 4;
inline constexpr int kMaxHeadDim = 256;  // and a multiple of 16

// Warps of a block whose heads have up to 64 * chunks dimensions: as many as fit 48 KiB of shared
// memory, which every device grants without being asked.
template <typename T>
STRATA_HOST_DEVICE constexpr int AttentionWarps(int chunks) {
  const int bytes = 64 * chunks * static_cast<int>(sizeof(T));
  return bytes <= 256 ? 4 : bytes <= 512 ? 2 : 1;
}

// Bytes from a staged key or value to the next: 32 more than it has, so that the lanes of a warp,
// each at another key, read from different banks.
template <typename T>
STRATA_HOST_DEVICE int64_t StagedBytes(int64_t head_dim) {
  return head_dim * static_cast<int64_t>(sizeof(T)) + 32;
}
// Shared memory of one warp: keys, values, two partial scores a key and head, weights.
template <typename T>
STRATA_HOST_DEVICE int64_t AttentionWarpBytes(int64_t head_dim, int heads) {
  return 2 * kPageTokens * StagedBytes<T>(head_dim) +
         heads * (kWarpLanes + kPageTokens) * static_cast<int64_t>(sizeof(float));
}
// Shared memory of a block: queries, then its warps'.
template <typename T>
STRATA_HOST_DEVICE int64_t AttentionSharedBytes(int64_t head_dim, int heads, int warps) {
  return heads * head_dim * static_cast<int64_t>(sizeof(float)) +
         warps * AttentionWarpBytes<T>(head_dim, heads);
}

// Grid: (rows, kv_heads * groups); block y takes, of KV head y / groups, query heads
// first + y % groups * kHeads and the kHeads - 1 next.
template <typename T>
struct AttentionParams {
  const StepInput* step = nullptr;
  const float* q = nullptr;  // [rows, heads * head_dim], rotated, scaled by 1 / sqrt(head_dim)
  const T* cache = nullptr;  // of this layer
  KvLayout layout;
  int heads = 0;
  int first = 0;
  int groups = 0;
  T* out = nullptr;  // [rows, heads * head_dim]
};

// A lane's share of a warp's online softmax: each lane knows the greatest score and the sum of
// weights, and has the weighted values of two neighbouring dimensions in every 64.
template <int kHeads, int kChunks>
struct AttentionState {
  float top[kHeads];
  float sum[kHeads];
  float value[kHeads][kChunks][2];
};

// kChunks: ceil(head_dim / 64).
template <typename T, int kHeads, int kChunks, typename Block>
STRATA_DEVICE void PagedAttention(Block& block, const AttentionParams<T>& p) {
  static_assert(Block::kWarps == AttentionWarps<T>(kChunks));
  constexpr int kItems = 16 / sizeof(T);  // of a piece of 16 bytes
  const int64_t r = block.x();
  if (r >= p.step->rows) return;
  const StepRow& row = p.step->row[r];
  const int32_t* pages = StepLists(p.step) + row.pages;
  const int32_t* scattered = StepLists(p.step) + row.scattered;
  const int dim = static_cast<int>(p.layout.head_dim);
  const int pieces = dim / kItems;  // of a key; even
  const int length = row.position + 1;
  const int kv_head = block.y() / p.groups;
  const int share = p.heads / static_cast<int>(p.layout.kv_heads);
  const int head = kv_head * share + p.first + block.y() % p.groups * kHeads;
  const int64_t at = (r * p.heads + head) * dim;  // of the first head in q and out
  const int staged = static_cast<int>(StagedBytes<T>(dim));

  float* q = reinterpret_cast<float*>(block.shared());
  std::byte* warps = block.shared() + kHeads * dim * sizeof(float);
  const auto keys_of = [&](int warp) { return warps + warp * AttentionWarpBytes<T>(dim, kHeads); };
  const auto halves_of = [&](int warp) {
    return reinterpret_cast<float*>(keys_of(warp) + 2 * kPageTokens * staged);
  };

  block.ForEachThread([&](int t) {
    for (int i = t; i < kHeads * dim; i += Block::kThreads) q[i] = p.q[at + i];
  });

  block.ForEachWarp([&](int warp, auto& lanes) {
    std::byte* keys = keys_of(warp);
    std::byte* values = keys + kPageTokens * staged;
    float* halves = halves_of(warp);                // [kHeads][2 * kPageTokens]
    float* weights = halves + kHeads * kWarpLanes;  // [kHeads][kPageTokens]
    // As many neighbouring lanes copy one key as it has pieces, rounded up to a power of two.
    int team = 1;
    while (team < pieces && team < kWarpLanes) team *= 2;

    typename Block::template PerLane<AttentionState<kHeads, kChunks>> states;
    lanes.ForEach([&](int lane) {
      auto& state = states[lane];
      STRATA_UNROLL
      for (int h = 0; h < kHeads; ++h) {
        state.top[h] = -INFINITY;
        state.sum[h] = 0;
        STRATA_UNROLL
        for (int c = 0; c < kChunks; ++c) state.value[h][c][0] = state.value[h][c][1] = 0;
      }
    });

    for (int begin = warp * kPageTokens; begin < length; begin += Block::kWarps * kPageTokens) {
      const int count = length - begin < kPageTokens ? length - begin : kPageTokens;
      lanes.ForEach([&](int lane) {
        const auto copy = [&](std::byte* to, int64_t offset) {
          for (int i = lane / team; i < count; i += kWarpLanes / team) {
            const int position = begin + i;
            const int32_t slot =
                position < row.direct
                    ? pages[position / kPageTokens] * kPageTokens + position % kPageTokens
                    : scattered[position - row.direct];
            const T* from = p.cache + p.layout.KeyOffset(slot, kv_head) + offset;
            for (int piece = lane % team; piece < pieces; piece += team) {
              lanes.CopyAsync(to + i * staged + piece * 16, from + piece * kItems);
            }
          }
          lanes.EndGroup();
        };
        copy(keys, 0);
        copy(values, p.layout.ValueOffset());
      });

      // Two lanes a key, each with every other piece of it.
      lanes.template WaitForGroups<1>();
      lanes.ForEach([&](int lane) {
        const int key = lane / 2;
        float even[kHeads], odd[kHeads];
        STRATA_UNROLL
        for (int h = 0; h < kHeads; ++h) even[h] = odd[h] = key < count ? 0 : -INFINITY;
        if (key < count) {
          const T* from = reinterpret_cast<const T*>(keys + key * staged);
          for (int piece = lane % 2; piece < pieces; piece += 2) {
            STRATA_UNROLL
            for (int i = 0; i < kItems; i += 4) {
              const int d = piece * kItems + i;
              float k[4];
              Load4(from + d, k);
              STRATA_UNROLL
              for (int h = 0; h < kHeads; ++h) {
                float x[4];
                Load4(q + h * dim + d, x);
                even[h] += x[0] * k[0];
                odd[h] += x[1] * k[1];
                even[h] += x[2] * k[2];
                odd[h] += x[3] * k[3];
              }
            }
          }
        }
        STRATA_UNROLL
        for (int h = 0; h < kHeads; ++h) halves[h * kWarpLanes + lane] = even[h] + odd[h];
      });

      lanes.ForEach([&](int lane) {
        auto& state = states[lane];
        STRATA_UNROLL
        for (int h = 0; h < kHeads; ++h) {
          float top = state.top[h];
          STRATA_UNROLL
          for (int i = 0; i < kPageTokens; i += 2) {
            float x[4];
            Load4(halves + h * kWarpLanes + 2 * i, x);
            top = fmaxf(top, fmaxf(x[0] + x[1], x[2] + x[3]));
          }
          const float* own = halves + h * kWarpLanes + 2 * (lane % kPageTokens);
          if (lane < kPageTokens) weights[h * kPageTokens + lane] = expf(own[0] + own[1] - top);
          const float shrink = expf(state.top[h] - top);
          state.top[h] = top;
          state.sum[h] *= shrink;
          STRATA_UNROLL
          for (int c = 0; c < kChunks; ++c) {
            state.value[h][c][0] *= shrink;
            state.value[h][c][1] *= shrink;
          }
        }
      });

      lanes.template WaitForGroups<0>();
      lanes.ForEach([&](int lane) {
        auto& state = states[lane];
        // Later slots may hold anything, even NaN: they are not read, rather than weighted by 0.
        for (int i = 0; i < count; ++i) {
          const T* from = reinterpret_cast<const T*>(values + i * staged);
          float v[kChunks][2];
          STRATA_UNROLL
          for (int c = 0; c < kChunks; ++c) {
            const int d = c * 64 + 2 * lane;
            v[c][0] = d < dim ? ToFloat(from[d]) : 0;
            v[c][1] = d < dim ? ToFloat(from[d + 1]) : 0;
          }
          STRATA_UNROLL
          for (int h = 0; h < kHeads; ++h) {
            const float w = weights[h * kPageTokens + i];
            state.sum[h] += w;
            STRATA_UNROLL
            for (int c = 0; c < kChunks; ++c) {
              state.value[h][c][0] += w * v[c][0];
              state.value[h][c][1] += w * v[c][1];
            }
          }
        }
      });
    }

    // What was staged is read; the warp's state takes its place: [kHeads][dim] values, and in
    // `halves` the greatest score and the sum of each head.
    lanes.ForEach([&](int lane) {
      auto& state = states[lane];
      float* merged = reinterpret_cast<float*>(keys);
      STRATA_UNROLL
      for (int h = 0; h < kHeads; ++h) {
        STRATA_UNROLL
        for (int c = 0; c < kChunks; ++c) {
          const int d = c * 64 + 2 * lane;
          if (d >= dim) continue;
          merged[h * dim + d] = state.value[h][c][0];
          merged[h * dim + d + 1] = state.value[h][c][1];
        }
        if (lane == 0) {
          halves[h * kWarpLanes] = state.top[h];
          halves[h * kWarpLanes + 1] = state.sum[h];
        }
      }
    });
  });

  block.ForEachThread([&](int t) {
    for (int i = t; i < kHeads * dim; i += Block::kThreads) {
      const int h = i / dim;
      // The first warp has at least position 0, so this is finite, and a warp without a position
      // (-inf) has weight 0.
      float top = -INFINITY;
      for (int w = 0; w < Block::kWarps; ++w) top = fmaxf(top, halves_of(w)[h * kWarpLanes]);
      float sum = 0, value = 0;
      for (int w = 0; w < Block::kWarps; ++w) {
        const float* state = halves_of(w) + h * kWarpLanes;
        const float weight = expf(state[0] - top);
        sum += weight * state[1];
        value += weight * reinterpret_cast<const float*>(keys_of(w))[i];
      }
      FromFloat(value / sum, p.out[at + i]);
    }
  });
}

}  // namespace strata::engine::cuda

#endif  // STRATA_SERVICES_VERIFY_ENGINE_CUDA_ATTENTION_H_
