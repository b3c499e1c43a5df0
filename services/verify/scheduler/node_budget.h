#ifndef STRATA_SERVICES_VERIFY_SCHEDULER_NODE_BUDGET_H_
#define STRATA_SERVICES_VERIFY_SCHEDULER_NODE_BUDGET_H_

#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "common/base/draft_tree.h"
#include "services/verify/scheduler/acceptance_curve.h"
#include "services/verify/scheduler/step_cost.h"

namespace strata::verify {

// Decides how many rows of a step go to draft nodes, and to which, over all sequences at once:
// nodes are taken in falling path probability (TETRIS, arXiv 2502.15197, section 4) for as long as
// the tokens that they are expected to gain pay for the time that their rows cost. None at all is
// an answer, and so is not even to ask for drafts. Nor may what some sequences gain make others
// slower than they would be without drafts, but for few (Lead, SlowedPlaces). Not thread-safe.
class NodeBudget {
 public:
  explicit NodeBudget(StepCost cost) : cost_(std::move(cost)) {}

  // One decoding sequence of the coming step.
  struct Offer {
    // Null for none.
    const DraftTree* tree = nullptr;
    // Tokens that a row of it attends to, about.
    int64_t context = 0;
    // Its Lead; by default it does not matter whether it is slowed down.
    double lead_steps = std::numeric_limits<double>::infinity();
  };
  // The nodes of each offer's tree that are worth their rows, ascending; a node's parent is always
  // among them. All of them while the cost of a row is unknown. The step has `other_rows` besides
  // (of prompts), and `slowed` sequences may fall behind in it. Prompts have to be computed anyway:
  // that a step is long by them makes no token worth more time than in other steps.
  std::vector<std::vector<int32_t>> Choose(std::span<const Offer> offers, int64_t other_rows = 0,
                                           int64_t slowed = 0);

  // Whether drafts for the coming step, of so many sequences, are worth the wait for them. Once a
  // step; after steps in which they were not, some are left out, the more the longer that lasts and
  // the longer the wait is beside a step: until they pay once, or far fewer sequences are left.
  bool WorthAsking(size_t sequences);
  // Whether drafts have not paid for so long that what would make them better may be left out, too:
  // WorthAsking is about to say no.
  bool Dormant() const;
  // Nodes worth asking for, for each of `sequences` decoding sequences, from what was of use in the
  // last steps; at least 4.
  uint32_t Wanted(size_t sequences) const;

  // What became of a step that was chosen for: seconds of waiting for drafts (0 if none were asked
  // for) and of the whole pass, rows and pairs as StepCost has them.
  void LearnStep(int64_t rows, int64_t pairs, double draft_seconds, double step_seconds);
  // The verdict on nodes that Choose kept. accepted: indices in `tree` (the one verified).
  void LearnVerdict(const DraftTree& tree, std::span<const int32_t> accepted);

  const StepCost& cost() const { return cost_; }
  const AcceptanceCurve& curve() const { return curve_; }

 private:
  StepCost cost_;
  AcceptanceCurve curve_;
  // Means over the last steps with drafts: seconds of waiting, and nodes kept in all.
  double draft_seconds_ = 0;
  double nodes_kept_ = 0;
  bool nodes_known_ = false;
  // Mean of log(tokens a second with drafts / without); below 0 they do not pay.
  double gain_ = 0;
  // Whether they did in the last step that was chosen for.
  bool last_paid_ = false;
  // What that step takes without drafts.
  double plain_seconds_ = 0;
  // Of the last question.
  size_t sequences_ = 0;
  int to_skip_ = 0;
  int next_skip_ = 1;
};

}  // namespace strata::verify

#endif  // STRATA_SERVICES_VERIFY_SCHEDULER_NODE_BUDGET_H_
