#include "services/verify/scheduler/node_budget.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <tuple>
#include <utility>

namespace strata::verify {
namespace {

// Weight of a new step in the means.
constexpr double kRate = 0.1;
// Steps left out between two in which drafts are asked for in vain: at least so many once they have
// not paid for long, and as many more as it takes for the wait to be no more than this share of all
// time.
constexpr int kSkipped = 8;
constexpr int kMostSkipped = 64;
constexpr double kVainShare = 0.02;
constexpr uint32_t kLeastWanted = 4;

struct Candidate {
  double claimed = 0;
  int32_t offer = 0;
  int32_t node = 0;
  bool taken = false;
};

// The longest step that leaves no more than so many sequences behind, as nodes are added to it. In
// steps without drafts.
class LongestStep {
 public:
  LongestStep(std::span<const NodeBudget::Offer> offers, int64_t slowed)
      : slowed_(static_cast<size_t>(slowed)) {
    for (const NodeBudget::Offer& offer : offers) most_.push_back(offer.lead_steps + 1);
    FindLimit();
  }
  // The sequence is expected to get `tokens` more.
  void Add(int32_t offer, double tokens) {
    double& most = most_[static_cast<size_t>(offer)];
    const bool may_rise = most <= limit_;
    most += tokens;
    if (may_rise) FindLimit();
  }
  double limit() const { return limit_; }
  // Whose limit that is; -1: nobody's.
  int32_t limiting() const { return limiting_; }

 private:
  void FindLimit() {
    if (slowed_ >= most_.size()) return;
    sorted_.clear();
    for (size_t i = 0; i < most_.size(); ++i) {
      sorted_.emplace_back(most_[i], static_cast<int32_t>(i));
    }
    const auto limiting = sorted_.begin() + static_cast<ptrdiff_t>(slowed_);
    std::nth_element(sorted_.begin(), limiting, sorted_.end());
    std::tie(limit_, limiting_) = *limiting;
  }

  const size_t slowed_;
  // What leaves each where it would be without drafts.
  std::vector<double> most_;
  std::vector<std::pair<double, int32_t>> sorted_;
  double limit_ = std::numeric_limits<double>::infinity();
  int32_t limiting_ = -1;
};

// The candidates in the order in which they are taken: the likeliest first, but where a sequence
// would fall behind by that, its own.
class Order {
 public:
  // `candidates` are sorted; a child behind its parent.
  Order(std::vector<Candidate>& candidates, size_t offers) : candidates_(candidates) {
    of_offer_.resize(offers);
    for (size_t i = 0; i < candidates.size(); ++i) {
      of_offer_[static_cast<size_t>(candidates[i].offer)].push_back(i);
    }
    next_of_offer_.resize(offers);
  }
  // Null if none is left.
  Candidate* Likeliest() {
    return Next(all_next_, candidates_.size(), [](size_t i) { return i; });
  }
  Candidate* Of(int32_t offer) {
    const std::vector<size_t>& own = of_offer_[static_cast<size_t>(offer)];
    return Next(next_of_offer_[static_cast<size_t>(offer)], own.size(),
                [&own](size_t i) { return own[i]; });
  }

 private:
  template <typename Place>
  Candidate* Next(size_t& next, size_t size, const Place& place) {
    while (next < size && candidates_[place(next)].taken) ++next;
    return next < size ? &candidates_[place(next)] : nullptr;
  }

  std::vector<Candidate>& candidates_;
  std::vector<std::vector<size_t>> of_offer_;
  std::vector<size_t> next_of_offer_;
  size_t all_next_ = 0;
};

}  // namespace

std::vector<std::vector<int32_t>> NodeBudget::Choose(std::span<const Offer> offers,
                                                     int64_t other_rows, int64_t slowed) {
  std::vector<Candidate> candidates;
  int64_t plain_pairs = 0;
  for (size_t i = 0; i < offers.size(); ++i) {
    plain_pairs += offers[i].context;
    if (offers[i].tree == nullptr) continue;
    const std::vector<double> path = PathProbabilities(*offers[i].tree);
    for (size_t node = 0; node < path.size(); ++node) {
      candidates.push_back({.claimed = path[node],
                            .offer = static_cast<int32_t>(i),
                            .node = static_cast<int32_t>(node)});
    }
  }
  // A child's path is never likelier than its parent's, and comes behind it on a tie: whatever
  // number is taken, parents are among them.
  std::sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    if (a.claimed != b.claimed) return a.claimed > b.claimed;
    return a.node != b.node ? a.node < b.node : a.offer < b.offer;
  });

  std::vector<std::vector<int32_t>> kept(offers.size());
  // In this order; none while nothing is known, which takes all.
  std::vector<Candidate*> taken;
  size_t best = candidates.size();
  if (cost_.known() && !offers.empty()) {
    const auto plain_rows = static_cast<int64_t>(offers.size());
    double tokens = static_cast<double>(offers.size());
    const double plain_seconds = cost_.Estimate(plain_rows, plain_pairs);
    // Seconds are told without the prompts' rows, but draft rows come on top of those, too.
    const int64_t rows_below = plain_rows + other_rows;
    const double seconds_below = cost_.Estimate(rows_below, 0) - plain_seconds;
    plain_seconds_ = plain_seconds;
    const double plain_rate = tokens / plain_seconds;
    LongestStep longest(offers, slowed);
    Order order(candidates, offers.size());
    double best_tokens = tokens;
    double best_seconds = plain_seconds;
    int64_t pairs = 0;
    best = 0;
    for (Candidate* next = order.Likeliest(); next != nullptr; next = order.Likeliest()) {
      const int64_t rows = rows_below + static_cast<int64_t>(taken.size()) + 1;
      const auto seconds_with = [&](const Candidate& candidate) {
        return cost_.Estimate(rows, pairs + offers[static_cast<size_t>(candidate.offer)].context) -
               seconds_below;
      };
      double seconds = seconds_with(*next);
      if (seconds + draft_seconds_ > longest.limit() * plain_seconds) {
        if (Candidate* own = order.Of(longest.limiting()); own != nullptr) next = own;
        seconds = seconds_with(*next);
      }
      const double gained = curve_.Corrected(next->claimed);
      next->taken = true;
      taken.push_back(next);
      tokens += gained;
      pairs += offers[static_cast<size_t>(next->offer)].context;
      longest.Add(next->offer, gained);
      if (seconds + draft_seconds_ > longest.limit() * plain_seconds) continue;
      if (tokens * best_seconds > best_tokens * seconds) {
        best_tokens = tokens;
        best_seconds = seconds;
        best = taken.size();
      }
    }
    const double rate = best_tokens / (best_seconds + draft_seconds_);
    const double gain = std::log(rate / plain_rate);
    gain_ += kRate * (gain - gain_);
    // Likely continuations come in bursts: where one was, the next step is asked for too.
    if (gain > 0) to_skip_ = 0;
    last_paid_ = gain > 0;
  }
  for (size_t i = 0; i < best; ++i) {
    const Candidate& candidate = taken.empty() ? candidates[i] : *taken[i];
    kept[static_cast<size_t>(candidate.offer)].push_back(candidate.node);
  }
  for (std::vector<int32_t>& nodes : kept) std::sort(nodes.begin(), nodes.end());
  const double count = static_cast<double>(best);
  nodes_kept_ = nodes_known_ ? nodes_kept_ + kRate * (count - nodes_kept_) : count;
  nodes_known_ = true;
  return kept;
}

bool NodeBudget::WorthAsking(size_t sequences) {
  // What drafts are worth among many says little of what they are worth to few.
  if (2 * sequences <= sequences_) {
    to_skip_ = 0;
    next_skip_ = 1;
    sequences_ = sequences;
  }
  if (to_skip_ > 0) {
    --to_skip_;
    return false;
  }
  sequences_ = sequences;
  if (gain_ >= 0 || last_paid_) {
    next_skip_ = 1;
    return true;
  }
  to_skip_ = next_skip_;
  int most = kSkipped;
  if (draft_seconds_ > kSkipped * kVainShare * plain_seconds_) {
    most = static_cast<int>(
        std::min<double>(kMostSkipped, draft_seconds_ / (kVainShare * plain_seconds_)));
  }
  next_skip_ = std::min(2 * next_skip_, most);
  return true;
}

bool NodeBudget::Dormant() const {
  return to_skip_ > 0 && next_skip_ >= kSkipped && gain_ < 0 && !last_paid_;
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
