#include "services/draft/tiers/predicted_tier.h"

#include <algorithm>
#include <vector>

namespace strata::draft {

PredictedTier::PredictedTier(std::span<const TokenId> prompt, std::span<const TokenId> predicted) {
  const size_t lead = std::min<size_t>(prompt.size(), kMaxContextOrder);
  std::vector<TokenId> text(prompt.end() - static_cast<ptrdiff_t>(lead), prompt.end());
  text.insert(text.end(), predicted.begin(), predicted.end());
  counts_.Teach(text, std::max<size_t>(lead, 1));
  counts_.TakeRetired();
}

}  // namespace strata::draft
