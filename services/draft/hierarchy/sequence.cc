#include "services/draft/hierarchy/sequence.h"

#include <algorithm>
#include <utility>

#include "services/draft/tiers/evidence.h"

namespace strata::draft {
namespace {

// Keys in a segment: the model tier is locked for one segment at a time, and each carries
// kLeadTokens and kTailTokens besides.
constexpr size_t kSegmentKeys = 64;
// Tokens before the first key, so that it has n-grams of every order.
constexpr size_t kLeadTokens = kMaxContextOrder - 1;
// Tokens after the last key: its continuation.
constexpr size_t kTailTokens = 1;

}  // namespace

Sequence::Sequence(uint32_t epoch, ModelKey key, std::span<const TokenId> prompt,
                   std::span<const TokenId> predicted, ModelStore* store)
    : epoch_(epoch),
      key_(std::move(key)),
      store_(store),
      predicted_(predicted.empty() ? nullptr : std::make_unique<PredictedTier>(prompt, predicted)),
      taught_(prompt.empty() ? 0 : prompt.size() - 1) {}

bool Sequence::has_to_teach() const {
  return store_ != nullptr && tokens().size() >= taught_ + kSegmentKeys + kTailTokens;
}

void Sequence::Teach() {
  while (has_to_teach()) TeachUpTo(taught_ + kSegmentKeys);
}

void Sequence::Finish() {
  if (store_ == nullptr) return;
  // The last token has no continuation.
  const size_t end = tokens().empty() ? 0 : tokens().size() - 1;
  while (taught_ < end) TeachUpTo(std::min(end, taught_ + kSegmentKeys));
}

void Sequence::TeachUpTo(size_t end) {
  const size_t begin = taught_ - std::min(taught_, kLeadTokens);
  const size_t tail = std::min(tokens().size(), end + kTailTokens);
  store_->Learn(key_, tokens().subspan(begin, tail - begin), static_cast<uint32_t>(taught_ - begin),
                static_cast<uint32_t>(end - begin));
  taught_ = end;
}

void Sequence::set_last_tree(const DraftTree& tree) {
  last_parents_ = tree.parents;
  last_tiers_ = tree.tiers;
}

bool Sequence::AcceptedTiers(std::span<const int32_t> nodes, std::vector<TierKind>& tiers) const {
  int32_t parent = -1;
  for (const int32_t node : nodes) {
    if (node < 0 || node >= static_cast<int32_t>(last_parents_.size()) ||
        last_parents_[node] != parent) {
      return false;
    }
    tiers.push_back(last_tiers_[node]);
    parent = node;
  }
  return true;
}

}  // namespace strata::draft
