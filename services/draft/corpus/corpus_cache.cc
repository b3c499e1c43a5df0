#include "services/draft/corpus/corpus_cache.h"

#include <rocksdb/cache.h>

#include <algorithm>

namespace strata::draft {

CorpusCache::CorpusCache(size_t bytes)
    : CorpusCache(bytes, std::min(bytes / 4, kMaxContextBytes)) {}

CorpusCache::CorpusCache(size_t bytes, size_t context_bytes)
    : contexts_(std::min(bytes, context_bytes)),
      blocks_(rocksdb::NewLRUCache(bytes - contexts_.bytes())) {}

CorpusCache::~CorpusCache() = default;

void CorpusCache::Clear() {
  contexts_.Clear();
  blocks_->EraseUnRefEntries();
}

}  // namespace strata::draft
