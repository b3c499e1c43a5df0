#include "services/draft/tiers/predicted_tier.h"

#include <algorithm>
#include <utility>

#include "services/draft/tiers/chain_collector.h"

namespace strata::draft {

PredictedTier::PredictedTier(size_t prompt_length, std::span<const TokenId> predicted)
    : prompt_length_(prompt_length) {
  for (const TokenId token : predicted) index_.Append(token);
}

void PredictedTier::Lookup(std::span<const TokenId> context, int max_chains, int chain_length,
                           std::vector<Chain>& out) const {
  if (empty() || max_chains <= 0 || chain_length <= 0) return;
  std::vector<Chain> found;
  if (context.size() == prompt_length_) {
    const std::span<const TokenId> text = index_.text();
    Chain& start = found.emplace_back();
    start.tokens.assign(text.begin(), text.begin() + std::min<size_t>(text.size(), chain_length));
    start.count = 1;
    start.total = 1;
  }
  const NgramIndex* index = &index_;
  std::vector<Chain> matched;
  LookupIndexes({&index, 1}, context, max_chains - static_cast<int>(found.size()), chain_length,
                matched);
  for (Chain& chain : matched) {
    if (found.empty() || chain.tokens != found.front().tokens) found.push_back(std::move(chain));
  }
  for (Chain& chain : found) out.push_back(std::move(chain));
}

}  // namespace strata::draft
