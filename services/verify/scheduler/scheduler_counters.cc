#include "services/verify/scheduler/scheduler_counters.h"

#include <algorithm>
#include <vector>

#include "services/verify/scheduler/node_budget.h"

namespace strata::verify {
namespace {

// Whatever a draft source says, an index.
size_t TierIndex(TierKind tier) {
  return static_cast<size_t>(tier) < kTierKinds ? static_cast<size_t>(tier) : 0;
}

}  // namespace

void SchedulerCounters::CountTree(const DraftTree& tree, std::span<const int32_t> verified,
                                  size_t taken) {
  if (tree.empty()) return;
  const std::vector<double> path = PathProbabilities(tree);
  std::vector<size_t> depth(tree.tokens.size());
  size_t levels = 0;
  for (size_t i = 0; i < depth.size(); ++i) {
    depth[i] = tree.parents[i] < 0 ? 0 : depth[tree.parents[i]] + 1;
    levels = std::max(levels, depth[i] + 1);
    by_tier[TierIndex(tree.tiers[i])].drafted.Add(1);
    Confidence& confidence = by_confidence[AcceptanceCurve::BinOf(path[i])];
    confidence.verified.Add(1);
    confidence.claimed.Add(path[i]);
  }
  for (size_t d = 0; d < levels; ++d) by_position[std::min(d, kPositions - 1)].drafted.Add(1);
  for (size_t d = 0; d < verified.size(); ++d) {
    by_confidence[AcceptanceCurve::BinOf(path[verified[d]])].accepted.Add(1);
    if (d >= taken) continue;
    by_position[std::min(d, kPositions - 1)].accepted.Add(1);
    by_tier[TierIndex(tree.tiers[verified[d]])].accepted.Add(1);
  }
}

void SchedulerCounters::CountEnd(const GenerationStats& stats) {
  prompt_tokens.Add(stats.prompt_tokens);
  cached_prompt_tokens.Add(stats.cached_prompt_tokens);
}

}  // namespace strata::verify
