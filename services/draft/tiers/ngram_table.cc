#include "services/draft/tiers/ngram_table.h"

#include <algorithm>

namespace strata::draft {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

}  // namespace

NgramTable::NgramTable(size_t slots, size_t cells) : slots_(slots), cells_(cells) {
  for (size_t i = 0; i < cells; ++i) cells_[i].link.store(static_cast<uint32_t>(i + 1), kRelaxed);
}

size_t NgramTable::Bytes(size_t slots, size_t cells) {
  return sizeof(NgramTable) + slots * sizeof(Slot) + cells * sizeof(Cell);
}

const NgramTable::Slot* NgramTable::Find(uint64_t hash) const {
  // Bounded, because a writer may fill the free place that would end the search.
  size_t place = Place(hash);
  for (size_t left = slots_.size(); left > 0; --left, place = After(place)) {
    // Acquire: what Count stored before the hash is there with it.
    const uint64_t stored = slots_[place].hash.load(std::memory_order_acquire);
    if (stored == hash) return &slots_[place];
    if (stored == 0) return nullptr;
  }
  return nullptr;
}

void NgramTable::Tell(const Slot& slot, ContextCounts& counts) const {
  const uint32_t next = slot.next.load(kRelaxed);
  counts.total = slot.total.load(kRelaxed);
  counts.size = 0;
  if ((next & kListBit) == 0) {
    if (counts.total > 0) {
      counts.size = 1;
      counts.continuations[0] = {static_cast<TokenId>(next), counts.total};
    }
    return;
  }
  uint32_t cell = next & ~kListBit;
  const uint32_t size = std::min<uint32_t>(cells_[cell].size.load(kRelaxed), kMaxContinuations);
  uint32_t sum = 0;
  for (uint32_t i = 0; i < size; ++i) {
    if (i == kCellEntries) {
      cell = cells_[cell].link.load(kRelaxed);
      // The list shrank since its size was read.
      if (cell >= cells_.size()) break;
    }
    const Entry& entry = cells_[cell].entries[i % kCellEntries];
    const Continuation next = {entry.token.load(kRelaxed), entry.count.load(kRelaxed)};
    // Seen twice while a writer moves it to the front.
    const std::span<const Continuation> told = counts.list();
    const bool known = std::any_of(told.begin(), told.end(),
                                   [&](const Continuation& c) { return c.token == next.token; });
    if (next.count == 0 || known) continue;
    counts.continuations[counts.size++] = next;
    sum += next.count;
  }
  // The total was read at another moment.
  counts.total = std::max(counts.total, sum);
}

NgramTable::Entry& NgramTable::EntryAt(uint32_t cell, uint32_t i) {
  if (i >= kCellEntries) cell = cells_[cell].link.load(kRelaxed);
  return cells_[cell].entries[i % kCellEntries];
}

uint32_t NgramTable::TakeCell() {
  const uint32_t cell = free_cell_;
  free_cell_ = cells_[cell].link.load(kRelaxed);
  ++used_cells_;
  return cell;
}

void NgramTable::FreeCell(uint32_t cell) {
  cells_[cell].link.store(free_cell_, kRelaxed);
  free_cell_ = cell;
  --used_cells_;
}

bool NgramTable::Count(uint64_t hash, TokenId token) {
  size_t place = Place(hash);
  for (;; place = After(place)) {
    const uint64_t stored = slots_[place].hash.load(kRelaxed);
    if (stored == hash) break;
    if (stored != 0) continue;
    Slot& slot = slots_[place];
    slot.total.store(1, kRelaxed);
    slot.next.store(static_cast<uint32_t>(token), kRelaxed);
    slot.hash.store(hash, std::memory_order_release);
    ++used_slots_;
    return true;
  }
  Slot& slot = slots_[place];
  const uint32_t total = slot.total.load(kRelaxed);
  const uint32_t next = slot.next.load(kRelaxed);
  if ((next & kListBit) != 0) {
    CountInList(next & ~kListBit, token);
  } else if (next != static_cast<uint32_t>(token)) {
    const uint32_t cell = TakeCell();
    Entry& first = cells_[cell].entries[0];
    first.token.store(static_cast<TokenId>(next), kRelaxed);
    first.count.store(total, kRelaxed);
    cells_[cell].size.store(1, kRelaxed);
    CountInList(cell, token);
    slot.next.store(kListBit | cell, std::memory_order_release);
  }
  slot.total.store(total + 1, kRelaxed);
  return false;
}

void NgramTable::CountInList(uint32_t cell, TokenId token) {
  const uint32_t size = cells_[cell].size.load(kRelaxed);
  uint32_t at = 0;
  while (at < size && EntryAt(cell, at).token.load(kRelaxed) != token) ++at;
  uint32_t count = 1;
  if (at < size) {
    count += EntryAt(cell, at).count.load(kRelaxed);
  } else if (size < kMaxContinuations) {
    if (size == kCellEntries) cells_[cell].link.store(TakeCell(), kRelaxed);
    cells_[cell].size.store(size + 1, kRelaxed);
  } else {
    // The least recent of those with the lowest count gives way.
    at = size - 1;
    for (uint32_t i = size - 1; i-- > 0;) {
      if (EntryAt(cell, i).count.load(kRelaxed) < EntryAt(cell, at).count.load(kRelaxed)) at = i;
    }
  }
  // To the front; those before it move back by one.
  for (; at > 0; --at) {
    const Entry& from = EntryAt(cell, at - 1);
    Entry& to = EntryAt(cell, at);
    to.token.store(from.token.load(kRelaxed), kRelaxed);
    to.count.store(from.count.load(kRelaxed), kRelaxed);
  }
  cells_[cell].entries[0].token.store(token, kRelaxed);
  cells_[cell].entries[0].count.store(count, kRelaxed);
}

bool NgramTable::Discount(uint64_t hash, TokenId token) {
  const Slot* found = Find(hash);
  if (found == nullptr) return false;
  Slot& slot = slots_[static_cast<size_t>(found - slots_.data())];
  const uint32_t total = slot.total.load(kRelaxed) - 1;
  const uint32_t next = slot.next.load(kRelaxed);
  slot.total.store(total, kRelaxed);
  if ((next & kListBit) != 0) DiscountInList(next & ~kListBit, token);
  if (total > 0) return false;
  if ((next & kListBit) != 0) {
    const uint32_t cell = next & ~kListBit;
    if (cells_[cell].size.load(kRelaxed) > kCellEntries) {
      FreeCell(cells_[cell].link.load(kRelaxed));
    }
    FreeCell(cell);
  }
  Erase(static_cast<size_t>(found - slots_.data()));
  return true;
}

void NgramTable::DiscountInList(uint32_t cell, TokenId token) {
  const uint32_t size = cells_[cell].size.load(kRelaxed);
  uint32_t at = 0;
  while (at < size && EntryAt(cell, at).token.load(kRelaxed) != token) ++at;
  // A token that lost its place is counted in the total alone.
  if (at == size) return;
  const uint32_t count = EntryAt(cell, at).count.load(kRelaxed);
  EntryAt(cell, at).count.store(count - 1, kRelaxed);
  if (count > 1) return;
  for (; at + 1 < size; ++at) {
    const Entry& from = EntryAt(cell, at + 1);
    Entry& to = EntryAt(cell, at);
    to.token.store(from.token.load(kRelaxed), kRelaxed);
    to.count.store(from.count.load(kRelaxed), kRelaxed);
  }
  cells_[cell].size.store(size - 1, kRelaxed);
  if (size - 1 == kCellEntries) FreeCell(cells_[cell].link.load(kRelaxed));
}

void NgramTable::Erase(size_t place) {
  // Backward shift: no gap may come between a context and the place its hash asks for.
  size_t gap = place;
  for (size_t i = After(place);; i = After(i)) {
    const uint64_t hash = slots_[i].hash.load(kRelaxed);
    if (hash == 0) break;
    if (Distance(Place(hash), i) < Distance(gap, i)) continue;
    slots_[gap].total.store(slots_[i].total.load(kRelaxed), kRelaxed);
    slots_[gap].next.store(slots_[i].next.load(kRelaxed), kRelaxed);
    slots_[gap].hash.store(hash, std::memory_order_release);
    gap = i;
  }
  slots_[gap].hash.store(0, std::memory_order_release);
  --used_slots_;
}

void NgramTable::CopyTo(NgramTable& to) const {
  for (const Slot& from : slots_) {
    const uint64_t hash = from.hash.load(kRelaxed);
    if (hash == 0) continue;
    size_t place = to.Place(hash);
    while (to.slots_[place].hash.load(kRelaxed) != 0) place = to.After(place);
    Slot& slot = to.slots_[place];
    slot.hash.store(hash, kRelaxed);
    slot.total.store(from.total.load(kRelaxed), kRelaxed);
    uint32_t next = from.next.load(kRelaxed);
    if ((next & kListBit) != 0) {
      uint32_t from_cell = next & ~kListBit;
      const uint32_t first = to.TakeCell();
      const uint32_t size = cells_[from_cell].size.load(kRelaxed);
      to.cells_[first].size.store(size, kRelaxed);
      uint32_t to_cell = first;
      for (uint32_t i = 0; i < size; ++i) {
        if (i == kCellEntries) {
          from_cell = cells_[from_cell].link.load(kRelaxed);
          const uint32_t second = to.TakeCell();
          to.cells_[first].link.store(second, kRelaxed);
          to_cell = second;
        }
        const Entry& old = cells_[from_cell].entries[i % kCellEntries];
        Entry& entry = to.cells_[to_cell].entries[i % kCellEntries];
        entry.token.store(old.token.load(kRelaxed), kRelaxed);
        entry.count.store(old.count.load(kRelaxed), kRelaxed);
      }
      next = kListBit | first;
    }
    slot.next.store(next, kRelaxed);
    ++to.used_slots_;
  }
}

}  // namespace strata::draft
