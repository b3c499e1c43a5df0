#ifndef STRATA_SERVICES_DRAFT_HIERARCHY_LOCALITY_POLICY_H_
#define STRATA_SERVICES_DRAFT_HIERARCHY_LOCALITY_POLICY_H_

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/base/draft_tree.h"
#include "services/draft/hierarchy/draft_limits.h"
#include "services/draft/tiers/tier.h"

namespace strata::draft {

// The paper's numbers (arXiv 2502.05609, section 4.1).
struct LocalityOptions {
  // Chains in a tree, 1 to kMaxChains.
  int max_chains = 7;
  // Tokens in a chain, 1 to kMaxChainLength.
  int chain_length = 4;
};
inline constexpr int kMaxChains = 64;
inline constexpr int kMaxChainLength = 32;

// INVALID_ARGUMENT names the option that is out of range.
absl::Status ValidateLocalityOptions(const LocalityOptions& options);

// Drafts by temporal locality alone: takes chains from `tiers`, which are in falling locality, the
// next tier only if those before gave fewer than max_chains. A chain that adds no node to the tree
// counts for nothing. Chains that share a beginning share its nodes. When the node budget runs
// out, the chains before are whole and the last one is cut.
//
// Confidences: the share count / (total + 1) that the chain's first token had in its context (one
// more than was seen, for what was not), also for the tokens after it, of which a chain does not
// tell; siblings together at most 1. Null tiers are skipped. `tree` is replaced. After `deadline`
// no tier is asked any more: the tree has the chains that were found by then, as long as they were.
void DraftByLocality(const LocalityOptions& options, std::span<const Tier* const> tiers,
                     std::span<const TokenId> context, const DraftLimits& limits,
                     absl::Time deadline, DraftTree& tree);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_HIERARCHY_LOCALITY_POLICY_H_
