#ifndef STRATA_SERVICES_DRAFT_HIERARCHY_SEQUENCE_H_
#define STRATA_SERVICES_DRAFT_HIERARCHY_SEQUENCE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "common/base/draft_tree.h"
#include "services/draft/tiers/context_tier.h"
#include "services/draft/tiers/model_key.h"
#include "services/draft/tiers/model_store.h"
#include "services/draft/tiers/predicted_tier.h"

namespace strata::draft {

// What the drafter holds of one live sequence: its tokens with the context tier over them, the
// predicted tier if the client gave one, and how much of its output the model tier has been
// taught. Thread-compatible.
class Sequence {
 public:
  // `prompt` and `predicted` are borrowed for the call; the prompt is yet to be appended. `store`
  // may be null (nothing is taught) and must outlive the sequence otherwise.
  Sequence(uint32_t epoch, ModelKey key, std::span<const TokenId> prompt,
           std::span<const TokenId> predicted, ModelStore* store);

  uint32_t epoch() const { return epoch_; }
  const ModelKey& model_key() const { return key_; }
  std::span<const TokenId> tokens() const { return context_.tokens(); }
  const ContextTier& context() const { return context_; }
  // Null if the client predicted nothing.
  const PredictedTier* predicted() const { return predicted_.get(); }

  void Append(std::span<const TokenId> tokens) { context_.Append(tokens); }
  // Whether enough of the output is complete for Teach.
  bool has_to_teach() const;
  // Teaches the model tier what has become complete, in portions.
  void Teach();
  // Teaches the rest. No Append after it.
  void Finish();

  // The tree sent last, which the next feedback is about.
  void set_last_tree(const DraftTree& tree);
  // The tier of each of its nodes.
  std::span<const TierKind> last_tiers() const { return last_tiers_; }
  // The tiers of the accepted nodes; false if `nodes` is not a path from the root of the last
  // tree.
  bool AcceptedTiers(std::span<const int32_t> nodes, std::vector<TierKind>& tiers) const;

 private:
  // Teaches keys up to `end` (exclusive), which is at most tokens().size(). There is a store.
  void TeachUpTo(size_t end);

  const uint32_t epoch_;
  const ModelKey key_;
  ModelStore* const store_;
  ContextTier context_;
  const std::unique_ptr<const PredictedTier> predicted_;
  std::vector<int32_t> last_parents_;
  std::vector<TierKind> last_tiers_;
  // n-grams that end before this position are taught, or are prompt. Starts with the prompt's last
  // token, which the first output token follows.
  size_t taught_;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_HIERARCHY_SEQUENCE_H_
