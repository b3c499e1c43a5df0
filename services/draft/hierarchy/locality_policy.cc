#include "services/draft/hierarchy/locality_policy.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"

namespace strata::draft {
namespace {

// What siblings leave of their parent's probability.
float FreeConfidence(const DraftTree& tree, int32_t parent) {
  float left = 1.0f;
  for (int i = parent + 1; i < tree.size(); ++i) {
    if (tree.parents[i] == parent) left -= tree.confidences[i];
  }
  return std::max(left, 0.0f);
}

// Adds the chain's nodes that the tree lacks, while there is budget. Returns how many it added.
int AddChain(const Chain& chain, TierKind tier, int max_depth, const DraftLimits& limits,
             DraftTree& tree) {
  const float share = static_cast<float>(chain.count) / (static_cast<float>(chain.total) + 1.0f);
  const size_t depth = std::min<size_t>(chain.tokens.size(), static_cast<size_t>(max_depth));
  int32_t parent = -1;
  int added = 0;
  for (size_t i = 0; i < depth; ++i) {
    const TokenId token = chain.tokens[i];
    if (token < 0 || token >= limits.vocab_size) break;
    const int existing = tree.FindChild(parent, token);
    if (existing >= 0) {
      parent = existing;
      continue;
    }
    if (static_cast<uint32_t>(tree.size()) >= limits.node_budget) break;
    const float confidence = std::clamp(share, 0.0f, FreeConfidence(tree, parent));
    parent = tree.Add(token, parent, confidence, tier);
    ++added;
  }
  return added;
}

}  // namespace

absl::Status ValidateLocalityOptions(const LocalityOptions& options) {
  if (options.max_chains < 1 || options.max_chains > kMaxChains) {
    return absl::InvalidArgumentError(absl::StrCat("the number of chains is ", options.max_chains,
                                                   ", must be 1 to ", kMaxChains));
  }
  if (options.chain_length < 1 || options.chain_length > kMaxChainLength) {
    return absl::InvalidArgumentError(absl::StrCat("the length of chains is ", options.chain_length,
                                                   ", must be 1 to ", kMaxChainLength));
  }
  return absl::OkStatus();
}

void DraftByLocality(const LocalityOptions& options, std::span<const Tier* const> tiers,
                     std::span<const TokenId> context, const DraftLimits& limits, DraftTree& tree) {
  tree.Clear();
  if (limits.node_budget == 0 || context.empty()) return;
  int max_depth = options.chain_length;
  if (limits.max_depth > 0 && limits.max_depth < static_cast<uint32_t>(max_depth)) {
    max_depth = static_cast<int>(limits.max_depth);
  }
  int chains = 0;
  std::vector<Chain> offered;
  for (const Tier* tier : tiers) {
    if (tier == nullptr) continue;
    offered.clear();
    // As many as the tree has more than a whole tree needs: those may be in it already.
    tier->Lookup(context, options.max_chains + chains, max_depth, offered);
    for (const Chain& chain : offered) {
      if (AddChain(chain, tier->kind(), max_depth, limits, tree) == 0) continue;
      if (++chains == options.max_chains) return;
      if (static_cast<uint32_t>(tree.size()) >= limits.node_budget) return;
    }
  }
}

}  // namespace strata::draft
