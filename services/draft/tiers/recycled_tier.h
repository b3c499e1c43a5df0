#ifndef STRATA_SERVICES_DRAFT_TIERS_RECYCLED_TIER_H_
#define STRATA_SERVICES_DRAFT_TIERS_RECYCLED_TIER_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/base/row_ranking.h"
#include "services/draft/tiers/tier.h"

namespace strata::draft {

// What one model ranked highest, for one tenant, after the same last two tokens or the same last
// token the last time it computed such a row, whether that row was accepted or not (Token
// Recycling, arXiv 2408.08696, section 3; the paper keeps the last token's ranking alone).
//
// A table of fixed size: a ranking replaces the one in its place, that of the same tokens or, by
// chance, of others. Not saved: it is refilled by the first answers.
//
// Thread-safe; Match waits for nobody, and may see a ranking half replaced, which costs at most a
// worse draft.
class RecycledTier final : public Tier {
 public:
  // Rankings held.
  static constexpr size_t kRankings = size_t{1} << 15;

  // Memory of one, allocated when it is made.
  static const size_t kBytes;

  RecycledTier() : rankings_(kRankings) {}

  // Tokens >= 0.
  void Learn(std::span<const RowRanking> rankings) ABSL_LOCKS_EXCLUDED(mutex_);
  size_t bytes() const { return kBytes; }

  TierKind kind() const override { return TierKind::kRecycled; }
  // Order 2, then order 1. There are no counts: of s tokens, the r-th (from 0) has s - r, so that
  // shares fall with the rank.
  void Match(std::span<const MatchQuery> queries, int levels,
             std::span<Evidence> out) const override;

 private:
  static_assert(RowRanking::kMaxTokens == kMaxContinuations);
  struct Ranking {
    // Of the tokens it is for; 0: none.
    std::atomic<uint64_t> hash;
    std::atomic<uint32_t> size;
    std::array<std::atomic<TokenId>, RowRanking::kMaxTokens> tokens;
  };

  void Store(uint64_t hash, const RowRanking& row) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Of writers.
  absl::Mutex mutex_;
  std::vector<Ranking> rankings_;
};

inline constexpr size_t RecycledTier::kBytes =
    sizeof(RecycledTier) + RecycledTier::kRankings * sizeof(Ranking);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_TIERS_RECYCLED_TIER_H_
