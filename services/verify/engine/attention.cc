#include "services/verify/engine/attention.h"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <type_traits>

#include "services/verify/engine/amx.h"
#include "services/verify/engine/joint_rows.h"
#include "services/verify/engine/parallel.h"
#include "services/verify/engine/tile_attention.h"
#include "services/verify/engine/vector_attention.h"

namespace strata::engine {
namespace {

// Most scores that a thread keeps of several rows that are taken together.
constexpr int64_t kMostScores = int64_t{1} << 19;

// About 10 multiply-adds a nanosecond: below some microseconds a barrier costs more.
constexpr double kLittleWork = 1 << 16;

// What the attention of one item costs: so much for each position, and so much besides. In no unit
// of its own.
struct ItemCost {
  double position;
  double item;
};
// size: rows of the sequence; joined: how many of them are taken together; heads: that share a KV
// head. Fitted to 16 streams and their prompts (Xeon of 2023, 3 and 7 heads). What a sequence's
// keys and values take to come from memory, once for all its rows, is most of what its one row
// costs when it decodes beside others, and next to nothing for each row of a prompt.
ItemCost CostOfItem(AttentionWay way, double size, double joined, double heads) {
  if (way == AttentionWay::kVectors) return {heads + 3 / joined + 9 / size, 16 * 3 * heads};
  // Cycles a block: the products with keys and values take all rows at once, weights are computed
  // for each.
  return {16 * heads + 200 / joined + 600 / size, 16 * (130 + 350 * heads)};
}

}  // namespace

template <>
AttentionWay BestAttentionWay<float>() {
  return AttentionWay::kVectors;
}
template <>
AttentionWay BestAttentionWay<Bf16>() {
  return AmxIsUsable() ? AttentionWay::kTiles : AttentionWay::kVectors;
}

AttentionScratch::AttentionScratch(AttentionWay way, const AttentionShape& shape,
                                   std::span<const AttentionRow> rows, int threads)
    : way_(way) {
  int64_t blocks = 0;
  for (const AttentionRow& row : rows) blocks = std::max(blocks, row.position / kPageTokens + 1);
  const auto row_count = static_cast<int64_t>(rows.size());
  int64_t most_rows = 1;  // of a sequence
  for (int64_t first = 0; first < row_count;) {
    const int64_t last = SequenceEnd(rows, first);
    most_rows = std::max(most_rows, last - first);
    first = last;
  }
  // An odd number of cache lines: those of several heads and rows do not fall on one another.
  stride_ = (blocks | 1) * kPageTokens;
  const int64_t share = shape.heads / shape.kv_heads;
  const bool tiles = way == AttentionWay::kTiles;
  const int64_t row_scores =
      stride_ * (tiles ? TileAttention::Heads(share) : VectorAttention::kHeads);
  const int64_t taken_rows = tiles ? TileAttention::Rows(share) : VectorAttention::kRows;
  joint_rows_ = std::clamp<int64_t>(kMostScores / row_scores, 1, std::min(most_rows, taken_rows));
  thread_scores_ = joint_rows_ * row_scores;
  scores_.reset(new (kLine) float[static_cast<size_t>(thread_scores_ * threads)]);
  Share(shape, rows, static_cast<size_t>(threads));
}

void AttentionScratch::Share(const AttentionShape& shape, std::span<const AttentionRow> rows,
                             size_t parts) {
  const auto row_count = static_cast<int64_t>(rows.size());
  const int64_t share = shape.heads / shape.kv_heads;
  std::vector<double> costs;
  costs.reserve(rows.size() * static_cast<size_t>(shape.kv_heads));
  double positions = 0;
  for (int64_t first = 0; first < row_count;) {
    const int64_t last = SequenceEnd(rows, first);
    const int64_t size = last - first;
    const int64_t times = (size + joint_rows_ - 1) / joint_rows_;
    const auto rows_here = static_cast<double>(size);
    const ItemCost cost = CostOfItem(way_, rows_here, rows_here / static_cast<double>(times),
                                     static_cast<double>(share));
    for (int64_t kv_head = 0; kv_head < shape.kv_heads; ++kv_head) {
      for (const AttentionRow& row : rows.subspan(first, size)) {
        const auto length = static_cast<double>(row.position + 1);
        costs.push_back(length * cost.position + cost.item);
        positions += length;
      }
    }
    first = last;
  }
  const int64_t width = share * shape.head_dim;
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

float* AttentionScratch::scores() { return scores_.get() + thread_scores_ * ThreadIndex(); }

template <typename T, typename Out>
void PagedAttention(const AttentionShape& shape, int64_t layer, std::span<const AttentionRow> rows,
                    const float* q, KvCache& cache, AttentionScratch& scratch, Out* out) {
  const int64_t share = shape.heads / shape.kv_heads;
  const int64_t width = shape.heads * shape.head_dim;
  const int64_t grain = scratch.little() ? scratch.parts() : 1;
  ParallelFor(scratch.parts(), grain, Work::kAttention, [&](int64_t begin, int64_t end) {
    float* const scores = scratch.scores();
    TileAttention tiles;
    const auto attend = [&](int64_t first, int64_t count, int64_t kv_head) {
      const HeadCache<T> head{cache, layer, kv_head, shape.head_dim};
      for (int64_t r = 0; r < count; r += scratch.joint_rows()) {
        const auto joined = static_cast<size_t>(std::min(count - r, scratch.joint_rows()));
        const JointRows<T, Out> joint{rows.subspan(static_cast<size_t>(first + r), joined),
                                      head,
                                      width,
                                      scratch.stride(),
                                      q,
                                      scores,
                                      out};
        if (scratch.way() == AttentionWay::kVectors) {
          VectorAttention::Run(joint, kv_head * share, (kv_head + 1) * share);
        } else if constexpr (std::is_same_v<T, Bf16>) {
          tiles.Run(joint, kv_head * share, (kv_head + 1) * share);
        }
      }
    };
    ForEachRun(rows, shape.kv_heads, scratch.part(begin), scratch.part(end), attend);
  });
}

template void PagedAttention<float>(const AttentionShape&, int64_t, std::span<const AttentionRow>,
                                    const float*, KvCache&, AttentionScratch&, float*);
template void PagedAttention<Bf16>(const AttentionShape&, int64_t, std::span<const AttentionRow>,
                                   const float*, KvCache&, AttentionScratch&, Bf16*);
template void PagedAttention<Bf16>(const AttentionShape&, int64_t, std::span<const AttentionRow>,
                                   const float*, KvCache&, AttentionScratch&, float*);

}  // namespace strata::engine
