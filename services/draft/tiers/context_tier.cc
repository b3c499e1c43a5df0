#include "services/draft/tiers/context_tier.h"

#include "services/draft/tiers/chain_collector.h"

namespace strata::draft {

void ContextTier::Append(std::span<const TokenId> tokens) {
  for (const TokenId token : tokens) index_.Append(token);
}

void ContextTier::Lookup(std::span<const TokenId> context, int max_chains, int chain_length,
                         std::vector<Chain>& out) const {
  const NgramIndex* index = &index_;
  LookupIndexes({&index, 1}, context, max_chains, chain_length, out);
}

}  // namespace strata::draft
