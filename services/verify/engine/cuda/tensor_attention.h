#ifndef STRATA_SERVICES_VERIFY_ENGINE_CUDA_TENSOR_ATTENTION_H_
#define STRATA_SERVICES_VERIFY_ENGINE_CUDA_TENSOR_ATTENTION_H_

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "services/verify/engine/cuda/attention.h"
#include "services/verify/engine/cuda/block.h"
#include "services/verify/engine/cuda/kv_layout.h"
#include "services/verify/engine/cuda/step.h"

// Attention over the paged KV cache in bf16, on tensor cores: as attention.h says, for a group of
// rows of one sequence (step.h) and the query heads that share a KV head, kTensorQueries at most.
// What all rows of the group see, such as the prefix of a draft tree, is read once for all of them.
//
// Each warp takes every kWarps-th tile of kTilePositions positions: scores of all queries are one
// product, weights, rounded to bf16, times values another; between them an online softmax in fp32.
//
// Row invariance: which warp takes a position, at which place of its tile, follows from the
// position alone. An element of a product depends on its own row and column alone. What a row does
// not see has weight 0, and tiles whose positions lie elsewhere for other rows of the group are
// computed for each of them by itself. What is added up here is spelt with MulAdd and Add, for a
// row's arithmetic must be the same in whatever group.
namespace strata::engine::cuda {

inline constexpr int kTensorQueries = 8;
inline constexpr int kTilePositions = 32;
inline constexpr int kTensorWarps = 4;
// Most rows of a group, for heads that share no KV head: small trees make several blocks.
inline constexpr int kTensorGroupRows = 4;

// Query heads of a block, and most rows of a group, where `share` query heads share a KV head.
STRATA_HOST_DEVICE constexpr int TensorHeads(int64_t share) {
  return share < kTensorQueries ? static_cast<int>(share) : kTensorQueries;
}
STRATA_HOST_DEVICE constexpr int TensorGroupRows(int64_t share) {
  const int rows = kTensorQueries / TensorHeads(share);
  return rows < kTensorGroupRows ? rows : kTensorGroupRows;
}

// A block's shared memory: queries, then that of its warps. In bytes, multiples of 16.
struct TensorShared {
  int dim = 0;

  // Elements from a row of queries, keys or values to the next: 8 more than it has, so that rows
  // start in different banks.
  STRATA_HOST_DEVICE int Stride() const { return (dim + 31) / 32 * 32 + 8; }
  // Floats from a row of sums to the next.
  STRATA_HOST_DEVICE int SumStride() const { return (dim + 31) / 32 * 32 + 4; }
  // Then of each query how many positions it sees, and its row of the group.
  STRATA_HOST_DEVICE int Queries() const { return kTensorQueries * Stride() * 2; }
  static constexpr int kQueryInfo = kTensorQueries * 2 * 4;
  // Keys, where later weighted values lie.
  STRATA_HOST_DEVICE int Keys() const {
    const int keys = kTilePositions * Stride() * 2, sums = kTensorQueries * SumStride() * 4;
    return keys > sums ? keys : sums;
  }
  STRATA_HOST_DEVICE int Values() const { return kTilePositions * Stride() * 2; }
  static constexpr int kScoreStride = kTilePositions + 4;
  static constexpr int kScores = kTensorQueries * kScoreStride * 4;
  static constexpr int kWeightStride = kTilePositions + 8;
  static constexpr int kWeights = kTensorQueries * kWeightStride * 2;
  // Of each query: four parts of its greatest score, four of its sum, by how much its state shrinks
  // (below 0 if it has no part in the tile), top, sum, one unused.
  static constexpr int kPartStride = 12;
  static constexpr int kParts = kTensorQueries * kPartStride * 4;
  static constexpr int kSlots = kTilePositions * 4;
  STRATA_HOST_DEVICE int Warp() const {
    return Keys() + Values() + kScores + kWeights + kParts + kSlots;
  }
  STRATA_HOST_DEVICE int64_t Bytes() const {
    return Queries() + kQueryInfo + int64_t{kTensorWarps} * Warp();
  }
};
static_assert(TensorShared::kQueryInfo % 16 == 0 && TensorShared::kScores % 16 == 0 &&
              TensorShared::kWeights % 16 == 0 && TensorShared::kParts % 16 == 0);

// Which of a group's rows look at a tile, and where it lies for them.
struct PositionTile {
  int begin = 0;      // the first position
  int count = 0;      // of positions that some of these rows see; over 0
  int first_row = 0;  // of the group
  int end_row = 0;
  int direct = 0;  // as in StepRow
  const int32_t* pages = nullptr;
  const int32_t* scattered = nullptr;  // of position `direct` on

  // Of the tile's position i.
  STRATA_DEVICE int32_t Slot(int i) const {
    const int position = begin + i;
    return position < direct ? pages[position / kPageTokens] * kPageTokens + position % kPageTokens
                             : scattered[position - direct];
  }
};

// Of a lane: the greatest score and the sum of weights of query lane / 4, and of all queries the
// weighted values of two neighbouring dimensions in every 64.
template <int kChunks>
struct TensorState {
  float top;
  float sum;
  float value[kTensorQueries][kChunks][2];
};

// kChunks: ceil(head_dim / 64) or more. Grid: (groups or more, kv_heads * params.groups).
template <int kChunks, typename Block>
STRATA_DEVICE void TensorAttention(Block& block, const AttentionParams<Bf16>& p) {
  static_assert(Block::kWarps == kTensorWarps);
  if (block.x() >= p.step->groups) return;
  const RowGroup group = p.step->group[block.x()];
  const int dim = static_cast<int>(p.layout.head_dim);
  const TensorShared sizes = {dim};
  const int stride = sizes.Stride(), sum_stride = sizes.SumStride();
  const int kv_head = block.y() / p.groups;
  const int share = p.heads / static_cast<int>(p.layout.kv_heads);
  const int first_head = block.y() % p.groups * kTensorQueries;
  // Heads of this block; query m is head m % heads of row m / heads.
  const int heads = share - first_head < kTensorQueries ? share - first_head : kTensorQueries;
  const int queries = heads * group.count;
  const int32_t* lists = StepLists(p.step);
  const StepRow* rows = p.step->row + group.first;
  // Of query m in q and out.
  const auto offset_of = [&](int m) {
    return (int64_t{group.first + m / heads} * p.heads + kv_head * share + first_head + m % heads) *
           dim;
  };

  int longest = 0, longest_row = 0, same_end = INT32_MAX;
  for (int r = 0; r < group.count; ++r) {
    const int length = rows[r].position + 1;
    if (length > longest) {
      longest = length;
      longest_row = r;
    }
    // All rows have the same pages. Up to same_end those that see a position see it there.
    if (rows[r].direct < length && rows[r].direct < same_end) same_end = rows[r].direct;
  }

  Bf16* q = reinterpret_cast<Bf16*>(block.shared());
  int32_t* length_of = reinterpret_cast<int32_t*>(block.shared() + sizes.Queries());
  int32_t* row_of = length_of + kTensorQueries;
  const auto own_of = [&](int warp) {
    return block.shared() + sizes.Queries() + sizes.kQueryInfo + warp * sizes.Warp();
  };

  block.ForEachThread([&](int t) {
    for (int i = t; i < kTensorQueries * dim; i += Block::kThreads) {
      const int m = i / dim;
      FromFloat(m < queries ? p.q[offset_of(m) + i % dim] : 0, q[m * stride + i % dim]);
    }
    if (t < kTensorQueries) {
      row_of[t] = t < queries ? t / heads : -1;
      length_of[t] = t < queries ? rows[t / heads].position + 1 : 0;
    }
  });

  block.ForEachWarp([&](int warp, auto& lanes) {
    std::byte* own = own_of(warp);
    Bf16* keys = reinterpret_cast<Bf16*>(own);
    float* sums = reinterpret_cast<float*>(own);
    Bf16* values = reinterpret_cast<Bf16*>(own + sizes.Keys());
    float* scores = reinterpret_cast<float*>(own + sizes.Keys() + sizes.Values());
    Bf16* weights = reinterpret_cast<Bf16*>(own + sizes.Keys() + sizes.Values() + sizes.kScores);
    float* parts = reinterpret_cast<float*>(own + sizes.Warp() - sizes.kSlots - sizes.kParts);
    int32_t* slots = reinterpret_cast<int32_t*>(own + sizes.Warp() - sizes.kSlots);
    const int pieces = dim / 8;  // of 16 bytes, of a key
    // Neighbouring lanes copy one key, of at most as many pieces.
    constexpr int kTeam = 8 * kChunks, kTeams = kWarpLanes / kTeam;

    typename Block::template PerLane<TensorState<kChunks>> states;
    lanes.ForEach([&](int lane) {
      auto& state = states[lane];
      state.top = -INFINITY;
      state.sum = 0;
      STRATA_UNROLL
      for (int m = 0; m < kTensorQueries; ++m) {
        STRATA_UNROLL
        for (int c = 0; c < kChunks; ++c) state.value[m][c][0] = state.value[m][c][1] = 0;
      }
    });

    const auto attend = [&](const PositionTile& tile) {
      lanes.ForEach([&](int lane) {
        if (lane < tile.count) slots[lane] = tile.Slot(lane);
      });
      lanes.ForEach([&](int lane) {
        const int piece = lane % kTeam;
        int32_t slot[kTilePositions / kTeams];
        STRATA_UNROLL
        for (int n = 0; n < kTilePositions / kTeams; ++n) {
          const int i = n * kTeams + lane / kTeam;
          slot[n] = i < tile.count ? slots[i] : -1;
        }
        const auto copy = [&](Bf16* to, int64_t offset) {
          STRATA_UNROLL
          for (int n = 0; n < kTilePositions / kTeams; ++n) {
            const int i = n * kTeams + lane / kTeam;
            if (slot[n] < 0 || piece >= pieces) continue;
            lanes.CopyAsync(to + i * stride + piece * 8,
                            p.cache + p.layout.KeyOffset(slot[n], kv_head) + offset + piece * 8);
          }
          lanes.EndGroup();
        };
        copy(keys, 0);
        copy(values, p.layout.ValueOffset());
        // Weight 0 times whatever is there would be NaN if that is.
        for (int i = tile.count + lane / kTeam; i < kTilePositions; i += kTeams) {
          if (piece < pieces) StorePack(Pack<Bf16, 8>{}, values + i * stride + piece * 8);
        }
      });
      lanes.template WaitForGroups<1>();
      lanes.template Multiply8x32<true>(q, stride, keys, stride, dim, scores, sizes.kScoreStride);

      // Four lanes a query, each with a quarter of its scores.
      // How many of the tile's positions a query sees; also more than there are, and below 0.
      const auto seen_by = [&](int m) {
        return row_of[m] >= tile.first_row && row_of[m] < tile.end_row ? length_of[m] - tile.begin
                                                                       : 0;
      };
      lanes.ForEach([&](int lane) {
        const int m = lane / 4, first = lane % 4 * 8, seen = seen_by(m);
        float top = -INFINITY;
        STRATA_UNROLL
        for (int i = 0; i < 8; i += 4) {
          float x[4];
          Load4(scores + m * sizes.kScoreStride + first + i, x);
          STRATA_UNROLL
          for (int k = 0; k < 4; ++k) {
            if (first + i + k < seen) top = fmaxf(top, x[k]);
          }
        }
        parts[m * sizes.kPartStride + lane % 4] = top;
      });
      lanes.ForEach([&](int lane) {
        auto& state = states[lane];
        const int m = lane / 4, first = lane % 4 * 8, seen = seen_by(m);
        float* part = parts + m * sizes.kPartStride;
        Bf16* to = weights + m * sizes.kWeightStride + first;
        float shrink = -1, sum = 0;
        Pack<Bf16, 4> w[2] = {};
        if (seen > 0) {
          float x[4];
          Load4(part, x);
          const float top = fmaxf(state.top, fmaxf(fmaxf(x[0], x[1]), fmaxf(x[2], x[3])));
          shrink = expf(Add(state.top, -top));
          state.top = top;
          STRATA_UNROLL
          for (int i = 0; i < 8; i += 4) {
            Load4(scores + m * sizes.kScoreStride + first + i, x);
            STRATA_UNROLL
            for (int k = 0; k < 4; ++k) {
              if (first + i + k >= seen) continue;
              Bf16& weight = w[i / 4].items[k];
              FromFloat(expf(Add(x[k], -top)), weight);
              // What the values are multiplied by, not what was rounded to it.
              sum = Add(sum, ToFloat(weight));
            }
          }
        }
        StorePack(w[0], to);
        StorePack(w[1], to + 4);
        part[4 + lane % 4] = sum;
        if (lane % 4 == 0) part[8] = shrink;
      });
      lanes.template WaitForGroups<0>();
      for (int d = 0; d < dim; d += 32) {
        lanes.template Multiply8x32<false>(weights, sizes.kWeightStride, values + d, stride,
                                           kTilePositions, sums + d, sum_stride);
      }
      lanes.ForEach([&](int lane) {
        auto& state = states[lane];
        const float* part = parts + lane / 4 * sizes.kPartStride;
        if (part[8] >= 0) {
          float x[4];
          Load4(part + 4, x);
          state.sum = MulAdd(state.sum, part[8], Add(Add(x[0], x[1]), Add(x[2], x[3])));
        }
        STRATA_UNROLL
        for (int m = 0; m < kTensorQueries; ++m) {
          const float shrink = parts[m * sizes.kPartStride + 8];
          if (shrink < 0) continue;
          STRATA_UNROLL
          for (int c = 0; c < kChunks; ++c) {
            const int d = c * 64 + 2 * lane;
            if (d >= dim) continue;
            const Pack<float, 2> add = LoadPack<2>(sums + m * sum_stride + d);
            float(&value)[2] = state.value[m][c];
            value[0] = MulAdd(value[0], shrink, add.items[0]);
            value[1] = MulAdd(value[1], shrink, add.items[1]);
          }
        }
      });
    };

    for (int begin = warp * kTilePositions; begin < longest;
         begin += kTensorWarps * kTilePositions) {
      // Together if the rows that see these positions see them in the same places, else row by row.
      const bool same = begin + kTilePositions <= same_end;
      for (int r = 0; r < (same ? 1 : group.count); ++r) {
        const StepRow& row = rows[same ? longest_row : r];
        const int left = row.position + 1 - begin;
        if (left <= 0) continue;
        attend({.begin = begin,
                .count = left < kTilePositions ? left : kTilePositions,
                .first_row = same ? 0 : r,
                .end_row = same ? group.count : r + 1,
                .direct = row.direct,
                .pages = lists + row.pages,
                .scattered = lists + row.scattered});
      }
    }

    lanes.ForEach([&](int lane) {
      auto& state = states[lane];
      STRATA_UNROLL
      for (int m = 0; m < kTensorQueries; ++m) {
        STRATA_UNROLL
        for (int c = 0; c < kChunks; ++c) {
          const int d = c * 64 + 2 * lane;
          if (d >= dim) continue;
          sums[m * sum_stride + d] = state.value[m][c][0];
          sums[m * sum_stride + d + 1] = state.value[m][c][1];
        }
      }
      if (lane % 4 == 0) {
        parts[lane / 4 * sizes.kPartStride + 9] = state.top;
        parts[lane / 4 * sizes.kPartStride + 10] = state.sum;
      }
    });
  });

  block.ForEachThread([&](int t) {
    for (int i = t; i < queries * dim; i += Block::kThreads) {
      const int m = i / dim, d = i % dim;
      const auto parts_of = [&](int w) {
        return reinterpret_cast<const float*>(own_of(w) + sizes.Warp() - sizes.kSlots -
                                              sizes.kParts) +
               m * sizes.kPartStride;
      };
      // The first warp has at least position 0, so this is finite, and a warp without a position
      // (-inf) has weight 0.
      float top = -INFINITY;
      for (int w = 0; w < kTensorWarps; ++w) top = fmaxf(top, parts_of(w)[9]);
      float sum = 0, value = 0;
      for (int w = 0; w < kTensorWarps; ++w) {
        const float weight = expf(Add(parts_of(w)[9], -top));
        sum = MulAdd(weight, parts_of(w)[10], sum);
        value =
            MulAdd(weight, reinterpret_cast<const float*>(own_of(w))[m * sum_stride + d], value);
      }
      FromFloat(value / sum, p.out[offset_of(m) + d]);
    }
  });
}

}  // namespace strata::engine::cuda

#endif  // STRATA_SERVICES_VERIFY_ENGINE_CUDA_TENSOR_ATTENTION_H_
