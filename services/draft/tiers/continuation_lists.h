#ifndef STRATA_SERVICES_DRAFT_TIERS_CONTINUATION_LISTS_H_
#define STRATA_SERVICES_DRAFT_TIERS_CONTINUATION_LISTS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/base/draft_tree.h"
#include "services/draft/tiers/evidence.h"
#include "services/draft/tiers/large_table_allocator.h"

namespace strata::draft {

// Memory for the continuations of contexts that more than one token has followed: lists of up to
// kMaxContinuations tokens with their counts, the most recent first. When a ninth comes, the least
// recent of those with the lowest count makes room.
//
// One writer at a time. Tell may run beside it and may see a change half done; nothing may run
// beside Grow.
class ContinuationLists {
 public:
  // A list takes one cell, or two where it has more than half of its tokens.
  explicit ContinuationLists(size_t cells);

  static size_t Bytes(size_t cells) { return cells * sizeof(Cell); }
  size_t cells() const { return cells_.size(); }
  size_t used_cells() const { return used_cells_; }
  size_t free_cells() const { return cells_.size() - used_cells_; }

  // A new list of one token: takes a cell.
  uint32_t Make(TokenId token, uint32_t count);
  // `token` followed once more: takes a cell at most, and none of a list just made.
  void Count(uint32_t list, TokenId token);
  // Takes back one Count; nothing if the token lost its place.
  void Discount(uint32_t list, TokenId token);
  void Free(uint32_t list);
  // Fills size and continuations; returns the sum of the counts.
  uint32_t Tell(uint32_t list, ContextCounts& counts) const;
  // The same list in `to`, which has the room for it.
  uint32_t CopyTo(uint32_t list, ContinuationLists& to) const;
  // More cells; lists stay where they are.
  void Grow(size_t cells);

 private:
  static constexpr int kCellEntries = kMaxContinuations / 2;

  struct Entry {
    std::atomic<TokenId> token;
    std::atomic<uint32_t> count;
  };
  // Half a list. The first half has its size and the place of the other.
  struct Cell {
    std::array<Entry, kCellEntries> entries;
    std::atomic<uint32_t> size;
    // The other half once size > kCellEntries; of a free cell, the next free one.
    std::atomic<uint32_t> link;
  };

  static void Copy(const Entry& from, Entry& to);
  Entry& EntryAt(uint32_t list, uint32_t i);
  uint32_t Take();
  void Give(uint32_t cell);

  std::vector<Cell, LargeTableAllocator<Cell>> cells_;
  size_t used_cells_ = 0;
  // cells_.size() if none is free.
  uint32_t free_cell_ = 0;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_TIERS_CONTINUATION_LISTS_H_
