#include "services/draft/corpus/context_cache.h"

#include <algorithm>

namespace strata::draft {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

// The first word of an entry: total, order, size, row_order, children, present.
uint64_t PackHead(const CachedContext& context) {
  return static_cast<uint64_t>(context.counts.total) << 32 |
         static_cast<uint64_t>(context.counts.order) << 24 |
         static_cast<uint64_t>(context.counts.size) << 16 |
         static_cast<uint64_t>(context.row_order) << 8 |
         static_cast<uint64_t>(context.children) << 1 | (context.present ? 1 : 0);
}

void UnpackHead(uint64_t head, CachedContext& context) {
  context.present = (head & 1) != 0;
  context.children = static_cast<Children>(head >> 1 & 3);
  context.row_order = static_cast<uint8_t>(head >> 8);
  context.counts.size = std::min<uint8_t>(static_cast<uint8_t>(head >> 16), kMaxContinuations);
  context.counts.order = static_cast<uint8_t>(head >> 24);
  context.counts.total = static_cast<uint32_t>(head >> 32);
}

}  // namespace

ContextCache::ContextCache(size_t bytes) : sets_(bytes / sizeof(Set)) {}

bool ContextCache::Find(uint64_t tag, CachedContext& out) const {
  if (sets_.empty()) return false;
  const Set& set = sets_[IndexOf(tag)];
  const uint64_t before = set.sequence.load(std::memory_order_acquire);
  if ((before & 1) != 0) return false;
  int way = 0;
  while (way < kWays && set.tags[way].load(kRelaxed) != tag) ++way;
  if (way == kWays) return false;
  const Entry& entry = set.entries[way];
  // A writer may be at work meanwhile: what is read is used only if the sequence stayed the same.
  UnpackHead(entry.words[0].load(kRelaxed), out);
  for (int i = 0; i < out.counts.size; ++i) {
    const uint64_t word = entry.words[1 + i].load(kRelaxed);
    out.counts.continuations[i] = {static_cast<TokenId>(word >> 32), static_cast<uint32_t>(word)};
  }
  std::atomic_thread_fence(std::memory_order_acquire);
  return set.sequence.load(kRelaxed) == before;
}

void ContextCache::Put(uint64_t tag, const CachedContext& context) {
  if (sets_.empty()) return;
  Set& set = sets_[IndexOf(tag)];
  uint64_t sequence = set.sequence.load(kRelaxed);
  if ((sequence & 1) != 0 ||
      !set.sequence.compare_exchange_strong(sequence, sequence + 1, std::memory_order_acquire)) {
    return;
  }
  // What follows must not be seen before the odd number.
  std::atomic_thread_fence(std::memory_order_release);
  int way = 0;
  while (way < kWays && set.tags[way].load(kRelaxed) != tag) ++way;
  if (way == kWays) {
    const uint32_t next = set.next_way.load(kRelaxed);
    way = static_cast<int>(next % kWays);
    set.next_way.store(next + 1, kRelaxed);
  }
  Entry& entry = set.entries[way];
  set.tags[way].store(tag, kRelaxed);
  entry.words[0].store(PackHead(context), kRelaxed);
  for (int i = 0; context.present && i < context.counts.size; ++i) {
    const Continuation& continuation = context.counts.continuations[i];
    entry.words[1 + i].store(static_cast<uint64_t>(continuation.token) << 32 | continuation.count,
                             kRelaxed);
  }
  set.sequence.store(sequence + 2, std::memory_order_release);
}

void ContextCache::Clear() {
  for (Set& set : sets_) {
    uint64_t sequence = set.sequence.load(kRelaxed);
    if ((sequence & 1) != 0 ||
        !set.sequence.compare_exchange_strong(sequence, sequence + 1, std::memory_order_acquire)) {
      continue;
    }
    std::atomic_thread_fence(std::memory_order_release);
    for (auto& tag : set.tags) tag.store(0, kRelaxed);
    set.sequence.store(sequence + 2, std::memory_order_release);
  }
}

}  // namespace strata::draft
