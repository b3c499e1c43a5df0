#ifndef STRATA_SERVICES_DRAFT_CORPUS_CORPUS_CACHE_H_
#define STRATA_SERVICES_DRAFT_CORPUS_CORPUS_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "services/draft/corpus/context_cache.h"

namespace rocksdb {
class Cache;
class Statistics;
}  // namespace rocksdb

namespace strata::draft {

// The memory for what is read of snapshots, shared by all that a process has open, so that a swap
// from one to another does not need more. One quarter, at most kMaxContextBytes, is for decoded
// contexts, the rest for blocks of the files. Thread-safe.
class CorpusCache {
 public:
  struct Stats {
    // Memory for blocks of the files: in use, at most, and how often a block was there or had to be
    // read.
    uint64_t block_bytes = 0;
    uint64_t max_block_bytes = 0;
    uint64_t block_hits = 0;
    uint64_t block_misses = 0;
    // Memory for decoded contexts.
    uint64_t context_bytes = 0;
  };

  explicit CorpusCache(size_t bytes);
  // With `context_bytes` of them for decoded contexts.
  CorpusCache(size_t bytes, size_t context_bytes);
  CorpusCache(const CorpusCache&) = delete;
  CorpusCache& operator=(const CorpusCache&) = delete;
  ~CorpusCache();

  const std::shared_ptr<rocksdb::Cache>& blocks() const { return blocks_; }
  ContextCache& contexts() { return contexts_; }
  // Counts the hits; for every database that reads through blocks().
  const std::shared_ptr<rocksdb::Statistics>& statistics() const { return statistics_; }
  Stats stats() const;
  // Drops what can be dropped, for measurements.
  void Clear();

  static constexpr size_t kMaxContextBytes = size_t{64} << 20;

 private:
  ContextCache contexts_;
  const std::shared_ptr<rocksdb::Cache> blocks_;
  const std::shared_ptr<rocksdb::Statistics> statistics_;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_CORPUS_CACHE_H_
