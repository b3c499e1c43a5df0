#ifndef STRATA_SERVICES_DRAFT_TIERS_PREDICTED_TIER_H_
#define STRATA_SERVICES_DRAFT_TIERS_PREDICTED_TIER_H_

#include <cstddef>
#include <span>
#include <vector>

#include "services/draft/tiers/ngram_index.h"
#include "services/draft/tiers/tier.h"

namespace strata::draft {

// Text that the client expects in the output (an edited file, a translation's source): n-grams
// of that text alone. While there is no output yet, its beginning is the first chain.
//
// Immutable, so thread-safe.
class PredictedTier final : public Tier {
 public:
  // `prompt_length`: tokens of the sequence that come before its output.
  PredictedTier(size_t prompt_length, std::span<const TokenId> predicted);

  bool empty() const { return index_.text().empty(); }
  size_t bytes() const { return index_.bytes(); }

  TierKind kind() const override { return TierKind::kPredicted; }
  // `context` is the whole sequence.
  void Lookup(std::span<const TokenId> context, int max_chains, int chain_length,
              std::vector<Chain>& out) const override;

 private:
  const size_t prompt_length_;
  NgramIndex index_;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_TIERS_PREDICTED_TIER_H_
