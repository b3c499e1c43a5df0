#ifndef STRATA_SERVICES_VERIFY_ENGINE_ATTENTION_H_
#define STRATA_SERVICES_VERIFY_ENGINE_ATTENTION_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <vector>

#include "services/verify/engine/kv_cache.h"
#include "services/verify/engine/rows.h"

// Attention over the paged KV cache for rows of ragged batches and draft trees.
//
// Row invariance: a row at position p scores the keys of positions 0 … p in blocks
// of kPageTokens by position, wherever they are stored; it sums weights and values
// in an order that depends on positions alone. So the result is a function of the query and of the
// keys and values along the row's path alone: a draft tree's node and a plain
// decode step at the same position take the same operations in the same order.
// Never split along the keys.
namespace strata::engine {

struct AttentionShape {
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
};

// Where the rows of the sequence of rows[first] end.
inline int64_t SequenceEnd(std::span<const AttentionRow> rows, int64_t first) {
  const auto count = static_cast<int64_t>(rows.size());
  int64_t last = first + 1;
  while (last < count && rows[last].pages.data() == rows[first].pages.data()) ++last;
  return last;
}

// Calls run(first, count, kv_head) for items [begin, end): rows [first, first + count) of one
// sequence with the query heads of one KV head. An item is a row with those heads; items stand
// sequence by sequence, in each KV head by KV head. rows: those of one sequence stand together.
template <typename Run>
void ForEachRun(std::span<const AttentionRow> rows, int64_t kv_heads, int64_t begin, int64_t end,
                const Run& run) {
  const auto row_count = static_cast<int64_t>(rows.size());
  int64_t first = 0;
  while (first < row_count && first * kv_heads < end) {
    const int64_t last = SequenceEnd(rows, first);
    const int64_t size = last - first;
    const int64_t items_end = std::min(end, last * kv_heads);
    for (int64_t i = std::max(begin, first * kv_heads); i < items_end;) {
      const int64_t kv_head = (i - first * kv_heads) / size;
      const int64_t at = (i - first * kv_heads) % size;
      const int64_t count = std::min(size - at, items_end - i);
      run(first + at, count, kv_head);
      i += count;
    }
    first = last;
  }
}

// VectorAttention or TileAttention. Their bits differ: a process stays with one.
enum class AttentionWay { kVectors, kTiles };
// The fastest on this CPU with a cache of T.
template <typename T>
AttentionWay BestAttentionWay();

// How the threads share the attention of one batch, and where they keep the scores of rows.
class AttentionScratch {
 public:
  // way: of PagedAttention; kTiles where AmxIsUsable() and the cache is in bf16. `rows`: those of
  // one sequence stand together. threads: what ThreadCount() is where they start.
  AttentionScratch(AttentionWay way, const AttentionShape& shape,
                   std::span<const AttentionRow> rows, int threads);
  AttentionWay way() const { return way_; }
  // Rows that are taken together at most, and a head's scores of a row.
  int64_t joint_rows() const { return joint_rows_; }
  int64_t stride() const { return stride_; }
  // Of the calling thread (ThreadIndex), from the beginning of a cache line on.
  float* scores();
  // Part i of as many as there are threads, which take about the same time, begins with item
  // part(i) (ForEachRun), and the last ends before part(parts()).
  int64_t parts() const { return static_cast<int64_t>(part_begins_.size()) - 1; }
  int64_t part(int64_t i) const { return part_begins_[static_cast<size_t>(i)]; }
  // All of it is over sooner than threads would meet.
  bool little() const { return little_; }

 private:
  static constexpr std::align_val_t kLine{64};
  struct FreeLines {
    void operator()(float* p) const { ::operator delete[](p, kLine); }
  };

  void Share(const AttentionShape& shape, std::span<const AttentionRow> rows, size_t parts);

  AttentionWay way_;
  int64_t stride_ = 0;
  int64_t joint_rows_ = 1;
  int64_t thread_scores_ = 0;
  std::unique_ptr<float[], FreeLines> scores_;
  std::vector<int64_t> part_begins_;
  bool little_ = false;
};

// q: [rows, heads * head_dim] fp32, rotated, scaled by 1 / sqrt(head_dim).
// out: [rows, heads * head_dim], rounded to T, the cache's type; Out is T or float. The rows' own
// keys and values are in the cache.
template <typename T, typename Out>
void PagedAttention(const AttentionShape& shape, int64_t layer, std::span<const AttentionRow> rows,
                    const float* q, KvCache& cache, AttentionScratch& scratch, Out* out);

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_ATTENTION_H_
