#ifndef STRATA_SERVICES_DRAFT_TIERS_NGRAM_INDEX_H_
#define STRATA_SERVICES_DRAFT_TIERS_NGRAM_INDEX_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "common/base/draft_tree.h"

namespace strata::draft {

// An append-only token text with an index of its n-grams of orders 1 to kMaxOrder: for each
// n-gram the positions where it ends, the most recent first. Shared by the in-memory tiers.
//
// Exact: hash tables hold positions alone and compare the text itself, so that a collision costs
// time but never gives a wrong occurrence; the hash is keyed per process, so that a client cannot
// aim for collisions. Append is O(kMaxOrder) amortised; memory is O(tokens), see bytes().
//
// Thread-compatible: const methods may run at once, not beside a mutation.
class NgramIndex {
 public:
  static constexpr int kMaxOrder = 8;
  // No n-gram contains it and no continuation crosses it.
  static constexpr TokenId kBoundary = -1;
  static constexpr uint32_t kNone = UINT32_MAX;
  // The most that one index may hold, boundaries included.
  static constexpr size_t kMaxTokens = size_t{1} << 28;

  // Where the most recent occurrences of a context's suffixes end.
  struct Match {
    // The longest suffix, in tokens, that occurs; 0 if none does.
    int longest = 0;
    // last[n - 1]: end of the most recent occurrence of the last n tokens, for n <= longest.
    std::array<uint32_t, kMaxOrder> last;
  };

  // Appends a token >= 0. With `key`, the n-grams that end with it become occurrences; without, it
  // is only text (the middle of later n-grams, the continuation of earlier ones). Tokens beyond
  // kMaxTokens are ignored.
  void Append(TokenId token, bool key = true);
  // Ends the current stretch of text; what follows is unrelated to it.
  void AppendBoundary();

  // The occurrences of the suffixes of `context` (most recent token last).
  Match Find(std::span<const TokenId> context) const;
  // End of the occurrence before the one that ends at `position`, of the same n-gram of `order`;
  // kNone if that was the first.
  uint32_t Previous(int order, uint32_t position) const { return previous_[position][order - 1]; }
  // Up to `length` tokens after `position`, fewer at a boundary or at the end.
  std::span<const TokenId> Continuation(uint32_t position, int length) const;

  // The text, boundaries included.
  std::span<const TokenId> text() const { return text_; }
  // Memory held, in bytes. At most about 200 bytes a token, once there are some dozens.
  size_t bytes() const;

 private:
  // Open addressing with linear probing; a slot is a position + 1, or 0 if free.
  struct Table {
    std::vector<uint32_t> slots;
    uint32_t used = 0;
  };

  // The slot that holds the n-gram of `order` that ends at end[-1], or the free one where it
  // belongs. The table must not be empty.
  size_t FindSlot(const Table& table, int order, uint64_t hash, const TokenId* end) const;
  void Grow(Table& table, int order);

  std::vector<TokenId> text_;
  // previous_[p][n - 1]; parallel to text_, kNone where p is no key or order n does not fit.
  std::vector<std::array<uint32_t, kMaxOrder>> previous_;
  std::array<Table, kMaxOrder> tables_;
  // Tokens since the last boundary.
  size_t run_ = 0;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_TIERS_NGRAM_INDEX_H_
