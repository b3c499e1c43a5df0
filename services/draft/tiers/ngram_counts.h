#ifndef STRATA_SERVICES_DRAFT_TIERS_NGRAM_COUNTS_H_
#define STRATA_SERVICES_DRAFT_TIERS_NGRAM_COUNTS_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "common/base/draft_tree.h"
#include "services/draft/tiers/evidence.h"
#include "services/draft/tiers/ngram_table.h"

namespace strata::draft {

// What followed each n-gram (orders 1 to kMaxContextOrder) of the text it was taught: how often in
// all, and up to kMaxContinuations different tokens with their counts, the most recent first. When
// a ninth comes, the least recent of those with the lowest count makes room, so totals are exact
// and lists are what matters of them. For texts that come and go: of one that only grows TextIndex
// tells the same for less.
//
// An n-gram is found by its keyed 64-bit hash (ContextTail) and never compared: among ten million
// any two share one with a probability of 3 in a million, and then their counts add up, which costs
// at most a worse draft. A context that one token alone has followed, by far the most, takes 16
// bytes in a table that is three fifths to three quarters full; a taught token at most about 220
// bytes.
//
// One thread at a time may change it; Match may run beside that, in any number of threads, and
// waits for nothing: it reads relaxed atomics and may see a change of one context half done, which
// costs at most a worse draft. A table that a change replaces must outlive such readers: it is kept
// until TakeRetired.
class NgramCounts {
 public:
  // `shards`, a power of two: tables that grow and shrink one by one, so that the growth of a large
  // index is gradual. One is best for a small index.
  explicit NgramCounts(int shards = 1);
  NgramCounts(const NgramCounts&) = delete;
  NgramCounts& operator=(const NgramCounts&) = delete;

  // Teaches that tokens[p] followed the n-grams which end at p - 1, for p in [begin,
  // tokens.size()). Tokens are >= 0; 1 <= begin. Amortised O(1) a token.
  void Teach(std::span<const TokenId> tokens, size_t begin);
  // Takes back one earlier Teach of the same arguments. When all is taken back, no context is left.
  void Forget(std::span<const TokenId> tokens, size_t begin);
  // Gives back memory that Forget left unused: of the next `shards` shards in turn, where it is a
  // sixteenth of a table or more.
  void Compact(size_t shards);
  void Compact() { Compact(shards_.size()); }
  size_t shards() const { return shards_.size(); }

  // Tier::Match.
  void Match(std::span<const MatchQuery> queries, int levels, std::span<Evidence> out) const;

  // Contexts that occurred.
  size_t contexts() const { return contexts_; }
  // Memory held, in bytes, retired tables included.
  size_t bytes() const { return bytes_; }
  bool has_retired() const { return !retired_.empty(); }

  // Tables that were replaced, and that readers which began before may still read; the caller's
  // now, and no longer counted in bytes().
  std::vector<std::unique_ptr<NgramTable>> TakeRetired();

 private:
  struct Shard {
    // What readers use; owned by `owner`.
    std::atomic<const NgramTable*> table = nullptr;
    std::unique_ptr<NgramTable> owner;
  };

  // The upper bits choose the shard, the lower ones the place in its table.
  size_t ShardOf(uint64_t hash) const { return shift_ == 64 ? 0 : hash >> shift_; }
  void Count(uint64_t hash, TokenId token);
  void Discount(uint64_t hash, TokenId token);
  // Replaces the shard's table by one of `slots` and `cells`.
  void Rebuild(Shard& shard, size_t slots, size_t cells);

  const int shift_;
  std::vector<Shard> shards_;
  size_t contexts_ = 0;
  size_t bytes_ = 0;
  // Where the next Compact begins.
  size_t compact_next_ = 0;
  std::vector<std::unique_ptr<NgramTable>> retired_;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_TIERS_NGRAM_COUNTS_H_
