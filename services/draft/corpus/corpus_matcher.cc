#include "services/draft/corpus/corpus_matcher.h"

#include <algorithm>
#include <array>
#include <limits>

#include "absl/container/inlined_vector.h"
#include "services/draft/corpus/snapshot_format.h"

namespace strata::draft {
namespace {

// More than the longest way from row to row; only a damaged snapshot or two contexts with one tag
// could lead in circles.
constexpr int kMaxRowsRead = 2 * kMaxContextOrder;

uint32_t Saturate(uint64_t count) {
  return static_cast<uint32_t>(std::min<uint64_t>(count, std::numeric_limits<uint32_t>::max()));
}

CachedContext ToCached(const ContextNode& node, int order, int row_order) {
  CachedContext context;
  context.present = true;
  context.children = node.children;
  context.row_order = static_cast<uint8_t>(row_order);
  context.counts.order = static_cast<uint8_t>(order);
  context.counts.size = static_cast<uint8_t>(node.size);
  context.counts.total = Saturate(node.total);
  for (int i = 0; i < node.size; ++i) {
    context.counts.continuations[i] = {node.ranked[i].token, Saturate(node.ranked[i].count)};
  }
  return context;
}

}  // namespace

// What is known of one query's contexts, by order.
struct CorpusMatcher::Walk {
  const ContextTail* tail = nullptr;
  // No longer context is looked for, or is known to be there.
  int bound = 0;
  // Longest context known to be there.
  int longest = 0;
  std::array<bool, kMaxContextOrder + 1> known{};
  std::array<bool, kMaxContextOrder + 1> asked{};  // of the cache
  std::array<CachedContext, kMaxContextOrder + 1> contexts;
};

CorpusMatcher::CorpusMatcher(rocksdb::DB* db, ContextCache* cache, uint64_t salt,
                             int64_t vocab_size, int max_order)
    : db_(db),
      cache_(cache),
      salt_(salt * 0x9E3779B97F4A7C15u),
      vocab_size_(vocab_size),
      max_order_(max_order) {}

uint64_t CorpusMatcher::Tag(const ContextTail& tail, int order) const {
  // The multiplication spreads hash and salt over the upper bits, which choose the set.
  const unsigned __int128 product = static_cast<unsigned __int128>(tail.hash(order) ^ salt_) *
                                    (0xA0761D6478BD642Fu + 2 * static_cast<uint64_t>(order));
  const uint64_t tag = static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  return tag == 0 ? 1 : tag;
}

bool CorpusMatcher::Know(Walk& walk, int order) const {
  if (walk.known[order] || walk.asked[order]) return walk.known[order];
  walk.asked[order] = true;
  walk.known[order] = cache_->Find(Tag(*walk.tail, order), walk.contexts[order]);
  return walk.known[order];
}

void CorpusMatcher::Learn(Walk& walk, int order, const CachedContext& context) {
  walk.known[order] = true;
  walk.contexts[order] = context;
  cache_->Put(Tag(*walk.tail, order), context);
}

int CorpusMatcher::NextRow(Walk& walk, int levels) const {
  // The row that says more than the context of `order`, which is there.
  const auto row_above = [&](int order) {
    const CachedContext& context = walk.contexts[order];
    return context.children == Children::kRows ? order + 1 : static_cast<int>(context.row_order);
  };
  for (int order = walk.bound; order > walk.longest; --order) {
    if (!Know(walk, order)) continue;
    if (walk.contexts[order].present) {
      walk.longest = order;
    } else {
      walk.bound = order - 1;
    }
  }
  if (walk.longest > 0 && walk.contexts[walk.longest].children == Children::kNone) {
    walk.bound = walk.longest;
  }
  if (walk.bound == 0) return 0;
  if (walk.longest < walk.bound) return walk.longest == 0 ? 1 : row_above(walk.longest);
  // Shorter ones are there too, but the cache may have lost them.
  for (int order = walk.longest - 1; order > 0 && order > walk.longest - levels; --order) {
    if (Know(walk, order)) continue;
    int below = order - 1;
    while (below > 0 && !Know(walk, below)) --below;
    return below == 0 ? 1 : row_above(below);
  }
  return 0;
}

void CorpusMatcher::TakeRow(Walk& walk, int order, const rocksdb::Status& status,
                            const rocksdb::Slice& row) {
  if (status.IsNotFound()) {
    Learn(walk, order, CachedContext());
    walk.bound = order - 1;
    walk.longest = std::min(walk.longest, walk.bound);
    return;
  }
  // What cannot be read is as if it was not there, for this query alone.
  const auto damaged = [&](int at) {
    damaged_.fetch_add(1, std::memory_order_relaxed);
    walk.bound = at - 1;
    walk.longest = std::min(walk.longest, walk.bound);
  };
  RowWalker walker({row.data(), row.size()}, vocab_size_);
  if (!status.ok() || walker.First() != RowWalker::Step::kFound) return damaged(order);
  const int first = order;
  for (;; ++order) {
    Learn(walk, order, ToCached(walker.node(), order, first));
    walk.longest = std::max(walk.longest, order);
    if (walker.node().children == Children::kNone) walk.bound = std::min(walk.bound, order);
    walk.longest = std::min(walk.longest, walk.bound);
    if (order >= walk.bound || walker.node().children != Children::kInline) return;
    const RowWalker::Step step = walker.Down(walk.tail->back(order));
    if (step == RowWalker::Step::kDamaged) return damaged(order + 1);
    if (step == RowWalker::Step::kAbsent) {
      Learn(walk, order + 1, CachedContext());
      walk.bound = order;
      walk.longest = std::min(walk.longest, order);
      return;
    }
  }
}

void CorpusMatcher::ReadRow(Walk& walk, int order) {
  std::array<TokenId, kMaxContextOrder> tokens;
  for (int t = 0; t < order; ++t) tokens[t] = walk.tail->back(t);
  std::array<char, kMaxKeyBytes> key;
  const size_t size = EncodeKey({tokens.data(), static_cast<size_t>(order)}, key.data());
  rocksdb::PinnableSlice row;
  const rocksdb::Status status =
      db_->Get(rocksdb::ReadOptions(), db_->DefaultColumnFamily(), {key.data(), size}, &row);
  TakeRow(walk, order, status, row);
}

void CorpusMatcher::Match(std::span<const MatchQuery> queries, int levels,
                          std::span<Evidence> out) {
  for (size_t begin = 0; begin < queries.size(); begin += kBatch) {
    const size_t size = std::min(kBatch, queries.size() - begin);
    MatchBatch(queries.subspan(begin, size), levels, out.subspan(begin, size));
  }
}

void CorpusMatcher::MatchBatch(std::span<const MatchQuery> queries, int levels,
                               std::span<Evidence> out) {
  absl::InlinedVector<Walk, kBatch> walks(queries.size());
  for (size_t q = 0; q < queries.size(); ++q) {
    Walk& walk = walks[q];
    walk.tail = queries[q].tail;
    const int most = std::min({queries[q].max_order, max_order_, walk.tail->size()});
    // No key holds a token out of range, nor any context that reaches past one.
    while (walk.bound < most && walk.tail->back(walk.bound) < vocab_size_) ++walk.bound;
    for (int order = 1; order <= walk.bound; ++order) cache_->Prefetch(Tag(*walk.tail, order));
  }
  // Not MultiGet: of a database that is only read, RocksDB (CompactedDBImpl) answers that key by
  // key, too, by way of copies (strata-replay, 16 sequences a message: 10 % more time in the
  // service); the kind of database that reads keys together takes a third longer for a single one.
  for (Walk& walk : walks) {
    for (int rows = 0; rows < kMaxRowsRead; ++rows) {
      const int order = NextRow(walk, levels);
      if (order == 0) break;
      ReadRow(walk, order);
    }
  }
  for (size_t q = 0; q < queries.size(); ++q) {
    const Walk& walk = walks[q];
    Evidence& evidence = out[q];
    evidence.levels = 0;
    for (int order = walk.longest; order > 0 && evidence.levels < levels; --order) {
      if (!walk.known[order] || !walk.contexts[order].present) break;
      evidence.level[evidence.levels++] = walk.contexts[order].counts;
    }
  }
}

}  // namespace strata::draft
