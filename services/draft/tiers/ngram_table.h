#ifndef STRATA_SERVICES_DRAFT_TIERS_NGRAM_TABLE_H_
#define STRATA_SERVICES_DRAFT_TIERS_NGRAM_TABLE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/base/draft_tree.h"
#include "services/draft/tiers/continuation_lists.h"
#include "services/draft/tiers/evidence.h"

namespace strata::draft {

// The memory of NgramCounts: contexts by their hash in an open-addressed table with linear probing,
// and cells for the lists of those that more than one token has followed. Its capacity is fixed;
// NgramCounts replaces a table that is full or too empty.
//
// One writer at a time; Find and Tell may run beside it (NgramCounts says what they may see).
class NgramTable {
 public:
  // A context, 16 bytes. hash 0 stands for a free place.
  struct Slot {
    std::atomic<uint64_t> hash;
    std::atomic<uint32_t> total;
    // The only token that followed, which then did so `total` times; or kListBit and a cell.
    std::atomic<uint32_t> next;
  };

  // 2 <= slots <= 2^32.
  NgramTable(size_t slots, size_t cells);

  static size_t Bytes(size_t slots, size_t cells);
  size_t bytes() const { return Bytes(slots_.size(), cells()); }
  size_t slots() const { return slots_.size(); }
  size_t cells() const { return lists_.cells(); }
  size_t used_slots() const { return used_slots_; }
  size_t used_cells() const { return lists_.used_cells(); }
  // Whether there is room for one Count more, whatever it counts.
  bool slots_full() const { return (used_slots_ + 1) * 4 > slots_.size() * 3; }
  bool cells_full() const { return lists_.free_cells() == 0; }

  void Prefetch(uint64_t hash) const { __builtin_prefetch(&slots_[Place(hash)]); }
  // Null if the context is not there.
  const Slot* Find(uint64_t hash) const;
  // Fills total, size and continuations.
  void Tell(const Slot& slot, ContextCounts& counts) const;

  // The table must not be full. True if the context is new.
  bool Count(uint64_t hash, TokenId token);
  // Takes back one Count. True if the context is gone with it.
  bool Discount(uint64_t hash, TokenId token);
  // Copies everything into `to`, which is empty and has the room.
  void CopyTo(NgramTable& to) const;

 private:
  static constexpr uint32_t kListBit = uint32_t{1} << 31;

  // Where the search for `hash` begins: its low half, scaled to the capacity.
  size_t Place(uint64_t hash) const { return (hash & 0xFFFFFFFFu) * slots_.size() >> 32; }
  size_t After(size_t place) const { return place + 1 == slots_.size() ? 0 : place + 1; }
  // How far `place` is behind `from`, going round.
  size_t Distance(size_t from, size_t place) const {
    return place >= from ? place - from : place + slots_.size() - from;
  }
  void Erase(size_t place);

  std::vector<Slot> slots_;
  size_t used_slots_ = 0;
  ContinuationLists lists_;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_TIERS_NGRAM_TABLE_H_
