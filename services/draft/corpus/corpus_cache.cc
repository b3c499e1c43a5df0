#include "services/draft/corpus/corpus_cache.h"

#include <rocksdb/cache.h>
#include <rocksdb/statistics.h>

#include <algorithm>

namespace strata::draft {

CorpusCache::CorpusCache(size_t bytes)
    : CorpusCache(bytes, std::min(bytes / 4, kMaxContextBytes)) {}

CorpusCache::CorpusCache(size_t bytes, size_t context_bytes)
    : contexts_(std::min(bytes, context_bytes)),
      blocks_(rocksdb::NewLRUCache(bytes - contexts_.bytes())),
      statistics_(rocksdb::CreateDBStatistics()) {
  // Counters alone, one a core; times would cost more than what they measure.
  statistics_->set_stats_level(rocksdb::StatsLevel::kExceptHistogramOrTimers);
}

CorpusCache::~CorpusCache() = default;

CorpusCache::Stats CorpusCache::stats() const {
  Stats stats;
  stats.block_bytes = blocks_->GetUsage();
  stats.max_block_bytes = blocks_->GetCapacity();
  stats.block_hits = statistics_->getTickerCount(rocksdb::BLOCK_CACHE_HIT);
  stats.block_misses = statistics_->getTickerCount(rocksdb::BLOCK_CACHE_MISS);
  stats.context_bytes = contexts_.bytes();
  return stats;
}

void CorpusCache::Clear() {
  contexts_.Clear();
  blocks_->EraseUnRefEntries();
}

}  // namespace strata::draft
