#include "services/draft/hierarchy/locality_policy.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/steady_clock.h"
#include "services/draft/tiers/evidence.h"

namespace strata::draft {
namespace {

// One continuation of a context.
struct TierChain {
  std::vector<TokenId> tokens;
  // Share of the context's occurrences that were followed by tokens[0]; one occurrence more than
  // was seen, for what was not.
  float share = 0;
};

// The chains that one tier offers: those of the longest matched context first, and of one context
// in the order in which the tier tells its continuations (in memory the most recent first, as the
// paper has it).
class ChainFinder {
 public:
  ChainFinder(const Tier& tier, int64_t vocab_size, int max_chains, int length, absl::Time deadline)
      : tier_(tier),
        vocab_size_(vocab_size),
        max_chains_(max_chains),
        length_(length),
        deadline_(deadline) {}

  std::vector<TierChain> Find(const ContextTail& tail) && {
    // First the different next tokens, then other ways to go on after each.
    for (int order = kMaxContextOrder; order >= 1 && !full();) {
      const Evidence evidence = Ask(tail, order, kMaxLevels);
      if (evidence.levels == 0) break;
      for (int level = 0; level < evidence.levels; ++level) {
        AddChains(tail, {}, evidence.level[level]);
        order = evidence.level[level].order - 1;
      }
    }
    const size_t heads = chains_.size();
    for (size_t i = 0; i < heads && length_ > 1 && !full(); ++i) {
      const std::vector<TokenId> head = {chains_[i].tokens[0]};
      const ContextTail after = tail.Extended(head[0]);
      const Evidence evidence = Ask(after, kMaxContextOrder, 1);
      if (evidence.levels > 0) {
        AddChains(after, head, evidence.level[0], chains_[i].share);
      }
    }
    return std::move(chains_);
  }

 private:
  bool full() const { return static_cast<int>(chains_.size()) >= max_chains_; }

  // After the deadline nothing is known.
  Evidence Ask(const ContextTail& tail, int max_order, int levels) const {
    const MatchQuery query = {&tail, max_order};
    Evidence evidence;
    if (SteadyNow() >= deadline_) return evidence;
    tier_.Match({&query, 1}, levels, {&evidence, 1});
    return evidence;
  }

  // One chain for each token that goes on from `head`, after which the context is `tail`, unless
  // there is one already. `share`: the head's, if it is not empty.
  void AddChains(const ContextTail& tail, const std::vector<TokenId>& head,
                 const ContextCounts& counts, float share = 0) {
    for (const Continuation& next : counts.list()) {
      if (full()) return;
      if (next.token < 0 || next.token >= vocab_size_) continue;
      std::vector<TokenId> tokens = head;
      tokens.push_back(next.token);
      if (Known(tokens)) continue;
      if (head.empty()) {
        share = static_cast<float>(next.count) / (static_cast<float>(counts.total) + 1.0f);
      }
      GoOn(tail.Extended(next.token), tokens);
      chains_.push_back({std::move(tokens), share});
    }
  }

  bool Known(const std::vector<TokenId>& tokens) const {
    return std::any_of(chains_.begin(), chains_.end(), [&](const TierChain& chain) {
      return tokens.size() <= chain.tokens.size() &&
             std::equal(tokens.begin(), tokens.end(), chain.tokens.begin());
    });
  }

  // Follows the first continuation of the longest match, up to length_ tokens.
  void GoOn(ContextTail tail, std::vector<TokenId>& tokens) const {
    while (static_cast<int>(tokens.size()) < length_) {
      const Evidence evidence = Ask(tail, kMaxContextOrder, 1);
      if (evidence.levels == 0 || evidence.level[0].size == 0) return;
      const TokenId token = evidence.level[0].continuations[0].token;
      if (token < 0 || token >= vocab_size_) return;
      tokens.push_back(token);
      tail = tail.Extended(token);
    }
  }

  const Tier& tier_;
  const int64_t vocab_size_;
  const int max_chains_;
  const int length_;
  const absl::Time deadline_;
  std::vector<TierChain> chains_;
};

// What siblings leave of their parent's probability.
float FreeConfidence(const DraftTree& tree, int32_t parent) {
  float left = 1.0f;
  for (int i = parent + 1; i < tree.size(); ++i) {
    if (tree.parents[i] == parent) left -= tree.confidences[i];
  }
  return std::max(left, 0.0f);
}

// Adds the chain's nodes that the tree lacks, while there is budget. Returns how many it added.
int AddChain(const TierChain& chain, TierKind tier, int max_depth, const DraftLimits& limits,
             DraftTree& tree) {
  const size_t depth = std::min<size_t>(chain.tokens.size(), static_cast<size_t>(max_depth));
  int32_t parent = -1;
  int added = 0;
  for (size_t i = 0; i < depth; ++i) {
    const TokenId token = chain.tokens[i];
    const int existing = tree.FindChild(parent, token);
    if (existing >= 0) {
      parent = existing;
      continue;
    }
    if (static_cast<uint32_t>(tree.size()) >= limits.node_budget) break;
    const float confidence = std::clamp(chain.share, 0.0f, FreeConfidence(tree, parent));
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
                     std::span<const TokenId> context, const DraftLimits& limits,
                     absl::Time deadline, DraftTree& tree) {
  tree.Clear();
  if (limits.node_budget == 0 || context.empty()) return;
  int max_depth = options.chain_length;
  if (limits.max_depth > 0 && limits.max_depth < static_cast<uint32_t>(max_depth)) {
    max_depth = static_cast<int>(limits.max_depth);
  }
  int chains = 0;
  const ContextTail tail(context);
  for (const Tier* tier : tiers) {
    if (tier == nullptr) continue;
    // As many as the tree has more than a whole tree needs: those may be in it already.
    ChainFinder finder(*tier, limits.vocab_size, options.max_chains + chains, max_depth, deadline);
    for (const TierChain& chain : std::move(finder).Find(tail)) {
      if (AddChain(chain, tier->kind(), max_depth, limits, tree) == 0) continue;
      if (++chains == options.max_chains) return;
      if (static_cast<uint32_t>(tree.size()) >= limits.node_budget) return;
    }
  }
}

}  // namespace strata::draft
