#ifndef STRATA_SERVICES_DRAFT_CORPUS_CORPUS_MATCHER_H_
#define STRATA_SERVICES_DRAFT_CORPUS_CORPUS_MATCHER_H_

#include <rocksdb/db.h>

#include <atomic>
#include <cstdint>
#include <span>

#include "services/draft/corpus/context_cache.h"
#include "services/draft/tiers/evidence.h"
#include "services/draft/tiers/tier.h"

namespace strata::draft {

// Answers queries from the rows of a snapshot, by way of a cache of decoded contexts. A context is
// in the snapshot only if all shorter ones are, and each says where the longer ones are, so a query
// reads only rows that can tell it more. Thread-safe.
class CorpusMatcher {
 public:
  // `db` and `cache` outlive the matcher. `salt` tells its snapshot apart in the cache.
  CorpusMatcher(rocksdb::DB* db, ContextCache* cache, uint64_t salt, int64_t vocab_size,
                int max_order);

  // As Tier::Match.
  void Match(std::span<const MatchQuery> queries, int levels, std::span<Evidence> out);
  // Rows that could not be read or decoded; they were treated as if they were not there.
  uint64_t damaged_rows() const { return damaged_.load(std::memory_order_relaxed); }

 private:
  struct Walk;
  // Queries whose contexts are looked for in the cache together; more come one batch after another.
  static constexpr size_t kBatch = kMatchBatch;

  void MatchBatch(std::span<const MatchQuery> queries, int levels, std::span<Evidence> out);
  uint64_t Tag(const ContextTail& tail, int order) const;
  // Fills walk.contexts[order] from the cache if it is not known yet. Returns whether it is then.
  bool Know(Walk& walk, int order) const;
  // Finds out from the cache what it can. Returns the order of the row to read next, or 0 if the
  // query can be answered.
  int NextRow(Walk& walk, int levels) const;
  // Reads the row of `order` and takes it in.
  void ReadRow(Walk& walk, int order);
  // Takes in what the row of `order` says; null if there is none.
  void TakeRow(Walk& walk, int order, const rocksdb::Status& status, const rocksdb::Slice& row);
  void Learn(Walk& walk, int order, const CachedContext& context);

  rocksdb::DB* const db_;
  ContextCache* const cache_;
  const uint64_t salt_;
  const int64_t vocab_size_;
  const int max_order_;
  std::atomic<uint64_t> damaged_{0};
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_CORPUS_MATCHER_H_
