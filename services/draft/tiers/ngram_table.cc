#include "services/draft/tiers/ngram_table.h"

#include <algorithm>

namespace strata::draft {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

}  // namespace

NgramTable::NgramTable(size_t slots, size_t cells) : slots_(slots), lists_(cells) {}

size_t NgramTable::Bytes(size_t slots, size_t cells) {
  return sizeof(NgramTable) + slots * sizeof(Slot) + ContinuationLists::Bytes(cells);
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
  const uint32_t sum = lists_.Tell(next & ~kListBit, counts);
  // The total was read at another moment.
  counts.total = std::max(counts.total, sum);
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
    lists_.Count(next & ~kListBit, token);
  } else if (next != static_cast<uint32_t>(token)) {
    const uint32_t list = lists_.Make(static_cast<TokenId>(next), total);
    lists_.Count(list, token);
    slot.next.store(kListBit | list, std::memory_order_release);
  }
  slot.total.store(total + 1, kRelaxed);
  return false;
}

bool NgramTable::Discount(uint64_t hash, TokenId token) {
  const Slot* found = Find(hash);
  if (found == nullptr) return false;
  Slot& slot = slots_[static_cast<size_t>(found - slots_.data())];
  const uint32_t total = slot.total.load(kRelaxed) - 1;
  const uint32_t next = slot.next.load(kRelaxed);
  slot.total.store(total, kRelaxed);
  // A token that lost its place is counted in the total alone.
  if ((next & kListBit) != 0) lists_.Discount(next & ~kListBit, token);
  if (total > 0) return false;
  if ((next & kListBit) != 0) lists_.Free(next & ~kListBit);
  Erase(static_cast<size_t>(found - slots_.data()));
  return true;
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
    if ((next & kListBit) != 0) next = kListBit | lists_.CopyTo(next & ~kListBit, to.lists_);
    slot.next.store(next, kRelaxed);
    ++to.used_slots_;
  }
}

}  // namespace strata::draft
