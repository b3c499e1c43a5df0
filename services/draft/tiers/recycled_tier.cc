#include "services/draft/tiers/recycled_tier.h"

#include <algorithm>

namespace strata::draft {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr int kMaxOrder = 2;

}  // namespace

void RecycledTier::Learn(std::span<const RowRanking> rankings) {
  absl::MutexLock lock(&mutex_);
  for (const RowRanking& row : rankings) {
    if (row.size == 0) continue;
    const std::array<TokenId, 2> context = {row.previous_token, row.token};
    Store(ContextTail::Hash(context.data() + 2, 1), row);
    if (row.previous_token >= 0) Store(ContextTail::Hash(context.data() + 2, 2), row);
  }
}

void RecycledTier::Store(uint64_t hash, const RowRanking& row) {
  Ranking& ranking = rankings_[hash % kRankings];
  ranking.hash.store(0, kRelaxed);
  const uint32_t size = std::min<uint32_t>(row.size, RowRanking::kMaxTokens);
  ranking.size.store(size, kRelaxed);
  for (uint32_t i = 0; i < size; ++i) ranking.tokens[i].store(row.next_tokens[i], kRelaxed);
  ranking.hash.store(hash, std::memory_order_release);
}

void RecycledTier::Match(std::span<const MatchQuery> queries, int levels,
                         std::span<Evidence> out) const {
  for (size_t q = 0; q < queries.size(); ++q) {
    Evidence& evidence = out[q];
    evidence.levels = 0;
    for (int order = std::min({queries[q].max_order, queries[q].tail->size(), kMaxOrder});
         order >= 1 && evidence.levels < levels; --order) {
      const uint64_t hash = queries[q].tail->hash(order);
      const Ranking& ranking = rankings_[hash % kRankings];
      if (ranking.hash.load(std::memory_order_acquire) != hash) continue;
      const uint32_t size = std::min<uint32_t>(ranking.size.load(kRelaxed), RowRanking::kMaxTokens);
      ContextCounts& counts = evidence.level[evidence.levels++];
      counts.order = static_cast<uint8_t>(order);
      counts.size = 0;
      counts.total = size * (size + 1) / 2;
      for (uint32_t i = 0; i < size; ++i) {
        const Continuation next = {ranking.tokens[i].load(kRelaxed), size - i};
        // Twice only when half replaced.
        const std::span<const Continuation> told = counts.list();
        if (std::any_of(told.begin(), told.end(),
                        [&](const Continuation& c) { return c.token == next.token; })) {
          continue;
        }
        counts.continuations[counts.size++] = next;
      }
    }
  }
}

}  // namespace strata::draft
