#ifndef STRATA_SERVICES_DRAFT_CORPUS_CONTEXT_CACHE_H_
#define STRATA_SERVICES_DRAFT_CORPUS_CONTEXT_CACHE_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "services/draft/corpus/snapshot_format.h"
#include "services/draft/tiers/evidence.h"
#include "services/draft/tiers/large_table_allocator.h"

namespace strata::draft {

// What the cache knows of one context of a snapshot.
struct CachedContext {
  // False: the snapshot does not have it.
  bool present = false;
  // If present: where longer ones are, and the order of the row that holds this one.
  Children children = Children::kNone;
  uint8_t row_order = 0;
  ContextCounts counts;
};

// Decoded contexts by a 64-bit tag that stands for snapshot, order and tokens. Two contexts with
// one tag would be taken for each other: at a million entries that is one query in 10^13, and the
// only effect is a worse draft.
//
// Set-associative: a tag belongs to one set, in which it takes the place of the entry that was put
// there longest ago. Lock-free: each set has a sequence number, odd while it is written. A reader
// that meets a writer finds nothing; a writer that meets one puts nothing. So nobody ever waits.
// Thread-safe.
class ContextCache {
 public:
  // Takes at most `bytes`, all at once; may hold no entry at all.
  explicit ContextCache(size_t bytes);
  ContextCache(const ContextCache&) = delete;
  ContextCache& operator=(const ContextCache&) = delete;

  size_t bytes() const { return sets_.size() * sizeof(Set); }

  // Starts to load what Find reads first.
  void Prefetch(uint64_t tag) const {
    if (!sets_.empty()) __builtin_prefetch(&sets_[IndexOf(tag)]);
  }
  bool Find(uint64_t tag, CachedContext& out) const;
  void Put(uint64_t tag, const CachedContext& context);
  void Clear();

 private:
  static constexpr int kWays = 4;
  static constexpr size_t kWords = 1 + kMaxContinuations;
  struct Entry {
    std::array<std::atomic<uint64_t>, kWords> words;
  };
  // Tags beside each other: a look for what is not there reads one cache line.
  struct alignas(64) Set {
    std::atomic<uint64_t> sequence;
    std::array<std::atomic<uint64_t>, kWays> tags;  // 0: empty
    std::atomic<uint32_t> next_way;
    std::array<Entry, kWays> entries;
  };
  size_t IndexOf(uint64_t tag) const {
    return static_cast<size_t>((static_cast<unsigned __int128>(tag) * sets_.size()) >> 64);
  }

  std::vector<Set, LargeTableAllocator<Set>> sets_;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_CONTEXT_CACHE_H_
