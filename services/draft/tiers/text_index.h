#ifndef STRATA_SERVICES_DRAFT_TIERS_TEXT_INDEX_H_
#define STRATA_SERVICES_DRAFT_TIERS_TEXT_INDEX_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "common/base/draft_tree.h"
#include "services/draft/tiers/continuation_lists.h"
#include "services/draft/tiers/evidence.h"
#include "services/draft/tiers/large_table_allocator.h"

namespace strata::draft {

// A text that grows at its end, and what followed each n-gram (orders 1 to kMaxContextOrder) of it:
// the same counts as NgramCounts has of one text, for a third of the memory and less time.
//
// A context that occurred once is kept as its place in the text, and none of the longer ones that
// end there is kept at all: the text says what they are (as an edge of a suffix tree is; E.
// Ukkonen, "On-line construction of suffix trees", 1995). When it occurs again, it gets counts, and
// the contexts of both places that are one token longer get entries of their own. So a token costs
// two or three look-ups where text is new, and as many as there are orders where it repeats.
//
// Contexts are found by keyed hash, with NgramCounts's chance of error. Thread-compatible.
class TextIndex {
 public:
  // `lead` comes before the text: contexts reach into it, and nothing in it counts as having
  // followed anything.
  explicit TextIndex(std::span<const TokenId> lead = {});

  // Tokens >= 0; lead and text have less than 2^31 in all. Amortised O(1) a token.
  void Append(std::span<const TokenId> tokens);

  // Lead and text; valid until the next Append.
  std::span<const TokenId> tokens() const { return tokens_; }
  // At most about 230 a token.
  size_t bytes() const;

  // Tier::Match.
  void Match(std::span<const MatchQuery> queries, int levels, std::span<Evidence> out) const;

 private:
  // A context, 16 bytes. hash 0 stands for a free place.
  struct Slot {
    uint64_t hash = 0;
    uint32_t total = 0;
    // If total is 1: the position of what followed. Else the only token that followed; or kListBit
    // and a list.
    uint32_t next = 0;
  };
  static constexpr uint32_t kListBit = uint32_t{1} << 31;

  // Where the search for `hash` begins. Grows with the low half of the hash, so that a growing
  // table is copied from front to back.
  size_t Place(uint64_t hash) const { return (hash & 0xFFFFFFFFu) * slots_.size() >> 32; }
  // The place of the context, or the free one where it belongs.
  size_t Find(uint64_t hash) const;
  // A context that occurred once. Null if its hash is that of another, which happens to none.
  Slot* Add(uint64_t key, size_t position);
  // That tokens_[position] followed all that ends before it.
  void Index(size_t position);
  // The context of `slot`, of `order` tokens, that occurred once, did so again before
  // tokens_[position].
  void Recur(Slot& slot, uint64_t hash, size_t order, size_t position);
  // `token` followed once more a context whose slot has tokens, not a position.
  void Count(Slot& slot, TokenId token);
  // The next size of a table of size `room` that needs `needed` for what is before `position`.
  size_t Grown(size_t room, size_t needed, size_t position) const;
  void Grow(size_t slots);
  void Tell(const Slot& slot, ContextCounts& counts) const;

  std::vector<TokenId> tokens_;
  std::vector<Slot, LargeTableAllocator<Slot>> slots_;
  size_t used_slots_ = 0;
  ContinuationLists lists_;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_TIERS_TEXT_INDEX_H_
