#include "services/verify/scheduler/node_budget.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace strata::verify {
namespace {

// Weight of a new step in the means.
constexpr double kRate = 0.1;
constexpr int kMostSkipped = 32;
constexpr uint32_t kLeastWanted = 4;

struct Candidate {
  double claimed = 0;
  int32_t offer = 0;
  int32_t node = 0;
};

}  // namespace

std::vector<double> PathProbabilities(const DraftTree& tree) {
  std::vector<double> path(tree.tokens.size());
  for (size_t i = 0; i < path.size(); ++i) {
    const double above = tree.parents[i] < 0 ? 1.0 : path[static_cast<size_t>(tree.parents[i])];
    path[i] = above * std::clamp(static_cast<double>(tree.confidences[i]), 0.0, 1.0);
  }
  return path;
}

std::vector<std::vector<int32_t>> NodeBudget::Choose(std::span<const Offer> offers) {
  std::vector<Candidate> candidates;
  int64_t pairs = 0;
  for (size_t i = 0; i < offers.size(); ++i) {
    pairs += offers[i].context;
    if (offers[i].tree == nullptr) continue;
    const std::vector<double> path = PathProbabilities(*offers[i].tree);
    for (size_t node = 0; node < path.size(); ++node) {
      candidates.push_back({path[node], static_cast<int32_t>(i), static_cast<int32_t>(node)});
    }
  }
  // A child's path is never likelier than its parent's, and comes behind it on a tie: whatever
  // number is taken, parents are among them.
  std::sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    if (a.claimed != b.claimed) return a.claimed > b.claimed;
    return a.node != b.node ? a.node < b.node : a.offer < b.offer;
  });

  std::vector<std::vector<int32_t>> kept(offers.size());
  size_t best = candidates.size();
  if (cost_.known() && !offers.empty()) {
    const int64_t plain_rows = static_cast<int64_t>(offers.size());
    double tokens = static_cast<double>(plain_rows);
    double seconds = cost_.Estimate(plain_rows, pairs);
    const double plain_rate = tokens / seconds;
    double best_tokens = tokens;
    double best_seconds = seconds;
    best = 0;
    for (size_t i = 0; i < candidates.size(); ++i) {
      tokens += curve_.Corrected(candidates[i].claimed);
      pairs += offers[static_cast<size_t>(candidates[i].offer)].context;
      seconds = cost_.Estimate(plain_rows + static_cast<int64_t>(i) + 1, pairs);
      if (tokens * best_seconds > best_tokens * seconds) {
        best_tokens = tokens;
        best_seconds = seconds;
        best = i + 1;
      }
    }
    const double rate = best_tokens / (best_seconds + draft_seconds_);
    gain_ += kRate * (std::log(rate / plain_rate) - gain_);
  }
  for (size_t i = 0; i < best; ++i) {
    kept[static_cast<size_t>(candidates[i].offer)].push_back(candidates[i].node);
  }
  for (std::vector<int32_t>& nodes : kept) std::sort(nodes.begin(), nodes.end());
  const double count = static_cast<double>(best);
  nodes_kept_ = nodes_known_ ? nodes_kept_ + kRate * (count - nodes_kept_) : count;
  nodes_known_ = true;
  return kept;
}

bool NodeBudget::WorthAsking() {
  if (to_skip_ > 0) {
    --to_skip_;
    return false;
  }
  if (gain_ >= 0) {
    next_skip_ = 1;
    return true;
  }
  to_skip_ = next_skip_;
  next_skip_ = std::min(2 * next_skip_, kMostSkipped);
  return true;
}

uint32_t NodeBudget::Wanted(size_t sequences) const {
  if (!nodes_known_ || sequences == 0) return UINT32_MAX;
  // Room for this step to want more than the mean: likely continuations come in bursts.
  const double each = nodes_kept_ / static_cast<double>(sequences);
  return kLeastWanted + static_cast<uint32_t>(std::ceil(3 * each));
}

void NodeBudget::LearnStep(int64_t rows, int64_t pairs, double draft_seconds, double step_seconds) {
  cost_.Learn(rows, pairs, step_seconds);
  if (draft_seconds > 0) draft_seconds_ += kRate * (draft_seconds - draft_seconds_);
  curve_.EndStep();
}

void NodeBudget::LearnVerdict(const DraftTree& tree, std::span<const int32_t> accepted) {
  const std::vector<double> path = PathProbabilities(tree);
  for (size_t i = 0; i < path.size(); ++i) {
    const bool taken =
        std::find(accepted.begin(), accepted.end(), static_cast<int32_t>(i)) != accepted.end();
    curve_.Learn(path[i], taken);
  }
}

}  // namespace strata::verify
