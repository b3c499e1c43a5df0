#include "services/draft/tiers/text_index.h"

#include <algorithm>
#include <array>
#include <utility>

namespace strata::draft {
namespace {

constexpr size_t kMinSlots = 32;
// Orders that most tokens need, and positions whose slots of these are fetched ahead of their use.
constexpr int kFetchedOrders = 4;
constexpr size_t kAhead = 4;
// The most contexts that one position adds: one an order, and where its way ends a second.
constexpr size_t kMostAdded = kMaxContextOrder + 1;

// 0 marks a free slot.
uint64_t Key(uint64_t hash) { return hash == 0 ? 1 : hash; }

}  // namespace

TextIndex::TextIndex(std::span<const TokenId> lead)
    : tokens_(lead.begin(), lead.end()), slots_(kMinSlots), lists_(0) {}

size_t TextIndex::bytes() const {
  return sizeof(*this) + tokens_.capacity() * sizeof(TokenId) + slots_.capacity() * sizeof(Slot) +
         ContinuationLists::Bytes(lists_.cells());
}

size_t TextIndex::Find(uint64_t hash) const {
  size_t place = Place(hash);
  while (slots_[place].hash != hash && slots_[place].hash != 0) {
    if (++place == slots_.size()) place = 0;
  }
  return place;
}

TextIndex::Slot* TextIndex::Add(uint64_t key, size_t position) {
  Slot& slot = slots_[Find(key)];
  if (slot.hash != 0) return nullptr;
  slot = {key, 1, static_cast<uint32_t>(position)};
  ++used_slots_;
  return &slot;
}

void TextIndex::Grow(size_t slots) {
  const auto old = std::exchange(slots_, decltype(slots_)(slots));
  for (const Slot& slot : old) {
    if (slot.hash != 0) slots_[Find(slot.hash)] = slot;
  }
}

size_t TextIndex::Grown(size_t room, size_t needed, size_t position) const {
  // What is left of the text may be like what is indexed, but not too much of it.
  const size_t expected = needed * tokens_.size() / position;
  return std::clamp<size_t>(expected, room * 3 / 2, room * 6);
}

void TextIndex::Append(std::span<const TokenId> tokens) {
  // The first token of all follows nothing.
  const size_t begin = std::max<size_t>(tokens_.size(), 1);
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  const auto fetch = [&](size_t position) {
    if (position >= tokens_.size()) return;
    uint64_t hash = ContextTail::Seed();
    const size_t orders = std::min<size_t>(position, kFetchedOrders);
    for (size_t order = 1; order <= orders; ++order) {
      hash = ContextTail::Extend(hash, tokens_[position - order]);
      __builtin_prefetch(&slots_[Place(Key(hash))]);
    }
  };
  for (size_t position = begin; position < tokens_.size(); ++position) {
    // Three quarters full at most.
    if ((used_slots_ + kMostAdded) * 4 > slots_.size() * 3) {
      Grow(Grown(slots_.size(), used_slots_ * 4 / 3, position) + kMostAdded);
    }
    // Each order makes one list or adds to one.
    if (lists_.free_cells() < kMaxContextOrder) {
      lists_.Grow(Grown(lists_.cells(), lists_.used_cells(), position) + kMaxContextOrder);
    }
    fetch(position + kAhead);
    Index(position);
  }
}

void TextIndex::Index(size_t position) {
  const size_t orders = std::min<size_t>(position, kMaxContextOrder);
  uint64_t hash = ContextTail::Seed();
  for (size_t order = 1; order <= orders; ++order) {
    hash = ContextTail::Extend(hash, tokens_[position - order]);
    Slot& slot = slots_[Find(Key(hash))];
    if (slot.hash == 0) {
      slot = {Key(hash), 1, static_cast<uint32_t>(position)};
      ++used_slots_;
      return;
    }
    if (slot.total == 1) return Recur(slot, hash, order, position);
    Count(slot, tokens_[position]);
  }
}

void TextIndex::Count(Slot& slot, TokenId token) {
  if ((slot.next & kListBit) != 0) {
    lists_.Count(slot.next & ~kListBit, token);
  } else if (slot.next != static_cast<uint32_t>(token)) {
    const uint32_t list = lists_.Make(static_cast<TokenId>(slot.next), slot.total);
    lists_.Count(list, token);
    slot.next = kListBit | list;
  }
  ++slot.total;
}

void TextIndex::Recur(Slot& slot, uint64_t hash, size_t order, size_t position) {
  const size_t before = slot.next;
  const TokenId first = tokens_[before];
  const TokenId second = tokens_[position];
  for (Slot* shared = &slot; shared != nullptr;) {
    shared->next = static_cast<uint32_t>(first);
    Count(*shared, second);
    if (order == kMaxContextOrder || position == order) return;
    // One token longer, by which the two may differ; that of before may not be so long.
    ++order;
    const TokenId longer = tokens_[position - order];
    const uint64_t longer_hash = ContextTail::Extend(hash, longer);
    shared = Add(Key(longer_hash), position);
    if (before < order) return;
    if (tokens_[before - order] != longer) {
      Add(Key(ContextTail::Extend(hash, tokens_[before - order])), before);
      return;
    }
    hash = longer_hash;
  }
}

void TextIndex::Tell(const Slot& slot, ContextCounts& counts) const {
  counts.total = slot.total;
  if ((slot.next & kListBit) != 0) {
    lists_.Tell(slot.next & ~kListBit, counts);
    return;
  }
  counts.size = 1;
  counts.continuations[0] = {static_cast<TokenId>(slot.next), slot.total};
}

void TextIndex::Match(std::span<const MatchQuery> queries, int levels,
                      std::span<Evidence> out) const {
  const auto limit = [](const MatchQuery& query) {
    return std::min(query.max_order, query.tail->size());
  };
  for (const MatchQuery& query : queries) {
    for (int order = 1; order <= std::min(limit(query), kFetchedOrders); ++order) {
      __builtin_prefetch(&slots_[Place(Key(query.tail->hash(order)))]);
    }
  }
  for (size_t q = 0; q < queries.size(); ++q) {
    const ContextTail& tail = *queries[q].tail;
    std::array<const Slot*, kMaxContextOrder> found;
    int longest = 0;
    // The last of `found`, if it occurred once: the position of what followed.
    bool once = false;
    size_t position = 0;
    int counted = 0;
    while (!once && longest < limit(queries[q])) {
      const Slot& slot = slots_[Find(Key(tail.hash(longest + 1)))];
      if (slot.hash == 0) break;
      found[longest++] = &slot;
      once = slot.total == 1;
      position = slot.next;
      if (!once) counted = longest;
    }
    if (once) {
      while (longest < limit(queries[q]) && static_cast<size_t>(longest) < position &&
             tokens_[position - static_cast<size_t>(longest) - 1] == tail.back(longest)) {
        ++longest;
      }
    }
    Evidence& evidence = out[q];
    evidence.levels = 0;
    for (int order = longest; order >= 1 && evidence.levels < levels; --order) {
      ContextCounts& counts = evidence.level[evidence.levels++];
      counts.order = static_cast<uint8_t>(order);
      if (order > counted) {
        counts.total = 1;
        counts.size = 1;
        counts.continuations[0] = {tokens_[position], 1};
      } else {
        Tell(*found[order - 1], counts);
      }
    }
  }
}

}  // namespace strata::draft
