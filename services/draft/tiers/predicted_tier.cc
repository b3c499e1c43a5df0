#include "services/draft/tiers/predicted_tier.h"

#include <algorithm>

namespace strata::draft {

PredictedTier::PredictedTier(std::span<const TokenId> prompt, std::span<const TokenId> predicted)
    : index_(prompt.last(std::min<size_t>(prompt.size(), kMaxContextOrder))) {
  index_.Append(predicted);
}

}  // namespace strata::draft
