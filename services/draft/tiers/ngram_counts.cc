#include "services/draft/tiers/ngram_counts.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

namespace strata::draft {
namespace {

constexpr size_t kMinSlots = 16;
constexpr size_t kMinCells = 4;
// Positions whose slots are fetched ahead of their use.
constexpr size_t kAhead = 4;
using Hashes = std::array<uint64_t, kMaxContextOrder>;

// 0 marks a free slot.
uint64_t Key(uint64_t hash) { return hash == 0 ? 1 : hash; }

// Keys of the n-grams that end before tokens[position]; returns how many there are.
int KeysBefore(std::span<const TokenId> tokens, size_t position, Hashes& keys) {
  const int orders = static_cast<int>(std::min<size_t>(position, kMaxContextOrder));
  uint64_t hash = ContextTail::Seed();
  for (int i = 0; i < orders; ++i) {
    hash = ContextTail::Extend(hash, tokens[position - 1 - static_cast<size_t>(i)]);
    keys[static_cast<size_t>(i)] = Key(hash);
  }
  return orders;
}

size_t Grown(size_t capacity) { return capacity + capacity / 4 + 4; }
// What holds so many contexts with a few places to spare; see NgramTable::slots_full.
size_t SlotsFor(size_t contexts) { return contexts * 4 / 3 + 4; }

}  // namespace

NgramCounts::NgramCounts(int shards)
    : shift_(64 - std::countr_zero(static_cast<unsigned>(shards))), shards_(shards) {}

void NgramCounts::Rebuild(Shard& shard, size_t slots, size_t cells) {
  auto table = std::make_unique<NgramTable>(slots, cells);
  bytes_ += table->bytes();
  if (shard.owner != nullptr) {
    shard.owner->CopyTo(*table);
    retired_.push_back(std::move(shard.owner));
  }
  shard.owner = std::move(table);
  shard.table.store(shard.owner.get(), std::memory_order_release);
}

std::vector<std::unique_ptr<NgramTable>> NgramCounts::TakeRetired() {
  for (const auto& table : retired_) bytes_ -= table->bytes();
  return std::exchange(retired_, {});
}

void NgramCounts::Count(uint64_t hash, TokenId token) {
  Shard& shard = shards_[ShardOf(hash)];
  if (shard.owner == nullptr) Rebuild(shard, kMinSlots, kMinCells);
  if (shard.owner->slots_full() || shard.owner->cells_full()) {
    const NgramTable& table = *shard.owner;
    Rebuild(shard, table.slots_full() ? Grown(table.slots()) : table.slots(),
            table.cells_full() ? Grown(table.cells()) : table.cells());
  }
  if (shard.owner->Count(hash, token)) ++contexts_;
}

void NgramCounts::Discount(uint64_t hash, TokenId token) {
  Shard& shard = shards_[ShardOf(hash)];
  if (shard.owner != nullptr && shard.owner->Discount(hash, token)) --contexts_;
}

void NgramCounts::Teach(std::span<const TokenId> tokens, size_t begin) {
  // Keys of the next positions, fetched while others are counted.
  std::array<Hashes, kAhead> keys;
  std::array<int, kAhead> orders{};
  const auto prepare = [&](size_t position) {
    if (position >= tokens.size()) return;
    Hashes& ahead = keys[position % kAhead];
    orders[position % kAhead] = KeysBefore(tokens, position, ahead);
    for (int i = 0; i < orders[position % kAhead]; ++i) {
      const NgramTable* table = shards_[ShardOf(ahead[i])].owner.get();
      if (table != nullptr) table->Prefetch(ahead[i]);
    }
  };
  for (size_t i = 0; i + 1 < kAhead; ++i) prepare(begin + i);
  for (size_t position = begin; position < tokens.size(); ++position) {
    prepare(position + kAhead - 1);
    const Hashes& now = keys[position % kAhead];
    for (int i = 0; i < orders[position % kAhead]; ++i) Count(now[i], tokens[position]);
  }
}

void NgramCounts::Forget(std::span<const TokenId> tokens, size_t begin) {
  Hashes keys;
  for (size_t position = begin; position < tokens.size(); ++position) {
    const int orders = KeysBefore(tokens, position, keys);
    for (int i = 0; i < orders; ++i) Discount(keys[i], tokens[position]);
  }
}

void NgramCounts::Compact(size_t shards) {
  for (size_t i = 0; i < std::min(shards, shards_.size()); ++i) {
    Shard& shard = shards_[compact_next_];
    compact_next_ = (compact_next_ + 1) % shards_.size();
    if (shard.owner == nullptr) continue;
    const NgramTable& table = *shard.owner;
    // A little room, or the next Count would make it grow again.
    const size_t slots =
        std::min(table.slots(), std::max(kMinSlots, SlotsFor(table.used_slots()) * 17 / 16));
    const size_t cells =
        std::min(table.cells(), std::max(kMinCells, table.used_cells() * 17 / 16 + 2));
    if (NgramTable::Bytes(slots, cells) <= table.bytes() / 16 * 15) Rebuild(shard, slots, cells);
  }
}

void NgramCounts::Match(std::span<const MatchQuery> queries, int levels,
                        std::span<Evidence> out) const {
  const auto limit = [](const MatchQuery& query) {
    return std::min(query.max_order, query.tail->size());
  };
  // All slots are under way before the first is looked at.
  for (const MatchQuery& query : queries) {
    for (int order = 1; order <= limit(query); ++order) {
      const uint64_t hash = Key(query.tail->hash(order));
      const NgramTable* table = shards_[ShardOf(hash)].table.load(std::memory_order_acquire);
      if (table != nullptr) table->Prefetch(hash);
    }
  }
  for (size_t q = 0; q < queries.size(); ++q) {
    struct Found {
      const NgramTable* table;
      const NgramTable::Slot* slot;
    };
    std::array<Found, kMaxContextOrder> found;
    // What was taught brings in all orders up to its longest, so that where one is absent all
    // longer ones are.
    int longest = 0;
    for (; longest < limit(queries[q]); ++longest) {
      const uint64_t hash = Key(queries[q].tail->hash(longest + 1));
      const NgramTable* table = shards_[ShardOf(hash)].table.load(std::memory_order_acquire);
      const NgramTable::Slot* slot = table == nullptr ? nullptr : table->Find(hash);
      if (slot == nullptr) break;
      found[longest] = {table, slot};
    }
    Evidence& evidence = out[q];
    evidence.levels = 0;
    for (int order = longest; order >= 1 && evidence.levels < levels; --order) {
      ContextCounts& counts = evidence.level[evidence.levels];
      found[order - 1].table->Tell(*found[order - 1].slot, counts);
      // Half done by a writer.
      if (counts.size == 0) continue;
      counts.order = static_cast<uint8_t>(order);
      ++evidence.levels;
    }
  }
}

}  // namespace strata::draft
