#ifndef STRATA_SERVICES_VERIFY_DRAFTING_LOOK_AHEAD_H_
#define STRATA_SERVICES_VERIFY_DRAFTING_LOOK_AHEAD_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/container/flat_hash_map.h"
#include "common/base/draft_tree.h"

namespace strata::verify {

// Trees that were drafted while a step ran, larger than what a step verifies: where the tokens that
// the step gave lead to one of their nodes, what is below it is the next draft, there at once
// (after CARD's query-and-correct, arXiv 2508.04462; the outcomes are the tree's nodes, likeliest
// first, as in Saguaro, arXiv 2603.03251). Not thread-safe.
class LookAhead {
 public:
  // `tree` hangs below the first `length` tokens of the sequence; what was kept of it before goes.
  void Keep(uint64_t sequence_id, size_t length, DraftTree tree);
  // A draft that was waited for: what one is worth.
  void LearnAwaited(const DraftTree& draft);
  // The draft of up to `nodes` nodes for a sequence that has `tokens` now. Empty if there is none,
  // or if it is worth the wait to have another. Tells of a tree once.
  DraftTree Take(uint64_t sequence_id, std::span<const TokenId> tokens, uint32_t nodes);
  void Forget(uint64_t sequence_id) { trees_.erase(sequence_id); }

 private:
  struct Ahead {
    size_t length = 0;
    DraftTree tree;
  };
  absl::flat_hash_map<uint64_t, Ahead> trees_;
  // Tokens that drafts which were waited for were expected to gain: a mean over the last ones.
  double awaited_gain_ = 1;
};

}  // namespace strata::verify

#endif  // STRATA_SERVICES_VERIFY_DRAFTING_LOOK_AHEAD_H_
