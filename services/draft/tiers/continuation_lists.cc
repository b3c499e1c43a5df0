#include "services/draft/tiers/continuation_lists.h"

#include <algorithm>
#include <span>
#include <utility>

namespace strata::draft {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

}  // namespace

ContinuationLists::ContinuationLists(size_t cells) { Grow(cells); }

void ContinuationLists::Copy(const Entry& from, Entry& to) {
  to.token.store(from.token.load(kRelaxed), kRelaxed);
  to.count.store(from.count.load(kRelaxed), kRelaxed);
}

ContinuationLists::Entry& ContinuationLists::EntryAt(uint32_t list, uint32_t i) {
  if (i >= kCellEntries) list = cells_[list].link.load(kRelaxed);
  return cells_[list].entries[i % kCellEntries];
}

uint32_t ContinuationLists::Take() {
  const uint32_t cell = free_cell_;
  free_cell_ = cells_[cell].link.load(kRelaxed);
  ++used_cells_;
  return cell;
}

void ContinuationLists::Give(uint32_t cell) {
  cells_[cell].link.store(free_cell_, kRelaxed);
  free_cell_ = cell;
  --used_cells_;
}

uint32_t ContinuationLists::Make(TokenId token, uint32_t count) {
  const uint32_t list = Take();
  cells_[list].entries[0].token.store(token, kRelaxed);
  cells_[list].entries[0].count.store(count, kRelaxed);
  cells_[list].size.store(1, kRelaxed);
  return list;
}

void ContinuationLists::Count(uint32_t list, TokenId token) {
  const uint32_t size = cells_[list].size.load(kRelaxed);
  uint32_t at = 0;
  while (at < size && EntryAt(list, at).token.load(kRelaxed) != token) ++at;
  uint32_t count = 1;
  if (at < size) {
    count += EntryAt(list, at).count.load(kRelaxed);
  } else if (size < kMaxContinuations) {
    if (size == kCellEntries) cells_[list].link.store(Take(), kRelaxed);
    cells_[list].size.store(size + 1, kRelaxed);
  } else {
    // The least recent of those with the lowest count gives way.
    at = size - 1;
    for (uint32_t i = size - 1; i-- > 0;) {
      if (EntryAt(list, i).count.load(kRelaxed) < EntryAt(list, at).count.load(kRelaxed)) at = i;
    }
  }
  // To the front; those before it move back by one.
  for (; at > 0; --at) Copy(EntryAt(list, at - 1), EntryAt(list, at));
  cells_[list].entries[0].token.store(token, kRelaxed);
  cells_[list].entries[0].count.store(count, kRelaxed);
}

void ContinuationLists::Discount(uint32_t list, TokenId token) {
  const uint32_t size = cells_[list].size.load(kRelaxed);
  uint32_t at = 0;
  while (at < size && EntryAt(list, at).token.load(kRelaxed) != token) ++at;
  if (at == size) return;
  const uint32_t count = EntryAt(list, at).count.load(kRelaxed);
  EntryAt(list, at).count.store(count - 1, kRelaxed);
  if (count > 1) return;
  for (; at + 1 < size; ++at) Copy(EntryAt(list, at + 1), EntryAt(list, at));
  cells_[list].size.store(size - 1, kRelaxed);
  if (size - 1 == kCellEntries) Give(cells_[list].link.load(kRelaxed));
}

void ContinuationLists::Free(uint32_t list) {
  if (cells_[list].size.load(kRelaxed) > kCellEntries) Give(cells_[list].link.load(kRelaxed));
  Give(list);
}

uint32_t ContinuationLists::Tell(uint32_t list, ContextCounts& counts) const {
  counts.size = 0;
  const uint32_t size = std::min<uint32_t>(cells_[list].size.load(kRelaxed), kMaxContinuations);
  uint32_t sum = 0;
  uint32_t cell = list;
  for (uint32_t i = 0; i < size; ++i) {
    if (i == kCellEntries) {
      cell = cells_[list].link.load(kRelaxed);
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
  return sum;
}

uint32_t ContinuationLists::CopyTo(uint32_t list, ContinuationLists& to) const {
  const uint32_t copy = to.Take();
  const uint32_t size = cells_[list].size.load(kRelaxed);
  to.cells_[copy].size.store(size, kRelaxed);
  uint32_t from_cell = list;
  uint32_t to_cell = copy;
  for (uint32_t i = 0; i < size; ++i) {
    if (i == kCellEntries) {
      from_cell = cells_[list].link.load(kRelaxed);
      to_cell = to.Take();
      to.cells_[copy].link.store(to_cell, kRelaxed);
    }
    Copy(cells_[from_cell].entries[i % kCellEntries], to.cells_[to_cell].entries[i % kCellEntries]);
  }
  return copy;
}

void ContinuationLists::Grow(size_t cells) {
  std::vector<Cell, LargeTableAllocator<Cell>> grown(cells);
  for (size_t i = 0; i < cells_.size(); ++i) {
    for (int e = 0; e < kCellEntries; ++e) Copy(cells_[i].entries[e], grown[i].entries[e]);
    grown[i].size.store(cells_[i].size.load(kRelaxed), kRelaxed);
    grown[i].link.store(cells_[i].link.load(kRelaxed), kRelaxed);
  }
  // The last free one of before links to the first new one already.
  for (size_t i = cells_.size(); i < cells; ++i) {
    grown[i].link.store(static_cast<uint32_t>(i + 1), kRelaxed);
  }
  cells_ = std::move(grown);
}

}  // namespace strata::draft
