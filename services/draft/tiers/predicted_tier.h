#ifndef STRATA_SERVICES_DRAFT_TIERS_PREDICTED_TIER_H_
#define STRATA_SERVICES_DRAFT_TIERS_PREDICTED_TIER_H_

#include <cstddef>
#include <span>

#include "services/draft/tiers/text_index.h"
#include "services/draft/tiers/tier.h"

namespace strata::draft {

// Text that the client expects in the output (an edited file, a translation's source): n-grams of
// that text alone. It is indexed as if it stood behind the prompt, so that its beginning is what
// follows the prompt's last tokens.
//
// Immutable, so thread-safe.
class PredictedTier final : public Tier {
 public:
  // `prompt`: what comes before the output; empty if that is not known, and the text is then
  // matched, but never started.
  PredictedTier(std::span<const TokenId> prompt, std::span<const TokenId> predicted);

  size_t bytes() const { return sizeof(*this) + index_.bytes(); }

  TierKind kind() const override { return TierKind::kPredicted; }
  void Match(std::span<const MatchQuery> queries, int levels,
             std::span<Evidence> out) const override {
    index_.Match(queries, levels, out);
  }

 private:
  TextIndex index_;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_TIERS_PREDICTED_TIER_H_
