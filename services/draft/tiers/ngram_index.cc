#include "services/draft/tiers/ngram_index.h"

#include <algorithm>
#include <random>

namespace strata::draft {
namespace {

constexpr size_t kMinSlots = 16;

uint64_t HashSeed() {
  static const uint64_t seed = [] {
    std::random_device device;
    return (static_cast<uint64_t>(device()) << 32) | device();
  }();
  return seed;
}

// Extends the hash of the last n - 1 tokens by the one before them. The multiply-and-fold is
// that of wyhash: every bit of the product's halves depends on seed and token.
uint64_t Extend(uint64_t hash, TokenId token) {
  const unsigned __int128 product =
      static_cast<unsigned __int128>(hash ^ (static_cast<uint64_t>(token) + 0x9E3779B97F4A7C15u)) *
      0xE7037ED1A0B428DBu;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// Hash of the `order` tokens before `end`.
uint64_t HashNgram(const TokenId* end, int order) {
  uint64_t hash = HashSeed();
  for (int i = 1; i <= order; ++i) hash = Extend(hash, end[-i]);
  return hash;
}

}  // namespace

size_t NgramIndex::FindSlot(const Table& table, int order, uint64_t hash,
                            const TokenId* end) const {
  const size_t mask = table.slots.size() - 1;
  for (size_t slot = hash & mask;; slot = (slot + 1) & mask) {
    const uint32_t stored = table.slots[slot];
    if (stored == 0) return slot;
    const TokenId* other_end = text_.data() + stored;
    if (std::equal(end - order, end, other_end - order)) return slot;
  }
}

void NgramIndex::Grow(Table& table, int order) {
  std::vector<uint32_t> old(std::max(kMinSlots, table.slots.size() * 2), 0);
  old.swap(table.slots);
  const size_t mask = table.slots.size() - 1;
  for (const uint32_t stored : old) {
    if (stored == 0) continue;
    // All n-grams in a table are different, so the first free slot is right.
    size_t slot = HashNgram(text_.data() + stored, order) & mask;
    while (table.slots[slot] != 0) slot = (slot + 1) & mask;
    table.slots[slot] = stored;
  }
}

void NgramIndex::Append(TokenId token, bool key) {
  if (token < 0 || text_.size() >= kMaxTokens) return;
  text_.push_back(token);
  ++run_;
  auto& previous = previous_.emplace_back();
  previous.fill(kNone);
  if (!key) return;
  const TokenId* end = text_.data() + text_.size();
  const uint32_t stored = static_cast<uint32_t>(text_.size());
  const int orders = static_cast<int>(std::min<size_t>(run_, kMaxOrder));
  uint64_t hash = HashSeed();
  for (int order = 1; order <= orders; ++order) {
    hash = Extend(hash, end[-order]);
    Table& table = tables_[order - 1];
    if (table.used * 3 >= table.slots.size() * 2) Grow(table, order);
    uint32_t& slot = table.slots[FindSlot(table, order, hash, end)];
    if (slot == 0) {
      ++table.used;
    } else {
      previous[order - 1] = slot - 1;
    }
    slot = stored;
  }
}

void NgramIndex::AppendBoundary() {
  run_ = 0;
  if (text_.empty() || text_.back() == kBoundary || text_.size() >= kMaxTokens) return;
  text_.push_back(kBoundary);
  previous_.emplace_back().fill(kNone);
}

NgramIndex::Match NgramIndex::Find(std::span<const TokenId> context) const {
  Match match;
  match.last.fill(kNone);
  const TokenId* end = context.data() + context.size();
  const int orders = static_cast<int>(std::min<size_t>(context.size(), kMaxOrder));
  uint64_t hash = HashSeed();
  for (int order = 1; order <= orders; ++order) {
    if (end[-order] < 0) break;
    hash = Extend(hash, end[-order]);
    const Table& table = tables_[order - 1];
    if (table.slots.empty()) break;
    const uint32_t stored = table.slots[FindSlot(table, order, hash, end)];
    // A key brings in all its orders, so a suffix that is absent rules out all longer ones.
    if (stored == 0) break;
    match.last[order - 1] = stored - 1;
    match.longest = order;
  }
  return match;
}

std::span<const TokenId> NgramIndex::Continuation(uint32_t position, int length) const {
  const size_t begin = size_t{position} + 1;
  size_t end = begin;
  while (end < text_.size() && end - begin < static_cast<size_t>(length) &&
         text_[end] != kBoundary) {
    ++end;
  }
  return std::span<const TokenId>(text_).subspan(begin, end - begin);
}

size_t NgramIndex::bytes() const {
  size_t bytes = sizeof(*this) + text_.capacity() * sizeof(TokenId) +
                 previous_.capacity() * sizeof(previous_[0]);
  for (const Table& table : tables_) bytes += table.slots.capacity() * sizeof(uint32_t);
  return bytes;
}

}  // namespace strata::draft
