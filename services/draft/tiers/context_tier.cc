#include "services/draft/tiers/context_tier.h"

#include <algorithm>

namespace strata::draft {

void ContextTier::Append(std::span<const TokenId> tokens) {
  const size_t before = tokens_.size();
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  // The first token of all follows nothing.
  counts_.Teach(tokens_, std::max<size_t>(before, 1));
  // Nobody else reads it.
  counts_.TakeRetired();
}

}  // namespace strata::draft
