#ifndef STRATA_COMMON_BASE_DRAFT_TREE_H_
#define STRATA_COMMON_BASE_DRAFT_TREE_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace strata {

using TokenId = int32_t;

// Where a drafted token came from; same numbers as strata.v1.Tier.
enum class TierKind : uint8_t {
  kUnspecified = 0,
  kPredicted = 1,
  kContext = 2,
  kModel = 3,
  kCorpus = 4,
  kRecycled = 5
};
inline constexpr int kTierKinds = 6;
const char* TierName(TierKind tier);

// A tree of drafted tokens in topological order: node i hangs below node
// parents[i] < i, or below the sequence's last token if parents[i] == -1.
// Siblings have distinct tokens. All lists have the same length.
struct DraftTree {
  std::vector<TokenId> tokens;
  std::vector<int32_t> parents;
  // Estimated probability in [0, 1] that a node is right if its parent is.
  std::vector<float> confidences;
  std::vector<TierKind> tiers;

  int size() const { return static_cast<int>(tokens.size()); }
  bool empty() const { return tokens.empty(); }
  void Clear();
  // Returns the new node's index. Does not look for a sibling with that token.
  int Add(TokenId token, int32_t parent, float confidence, TierKind tier);
  // The child of `parent` that carries `token`, or -1. Linear in size().
  int FindChild(int32_t parent, TokenId token) const;
  // Keeps the first `nodes` nodes; a prefix of a tree is a tree.
  void Truncate(int nodes);
  // Keeps `nodes`: ascending, and each one's parent among them.
  void Keep(std::span<const int32_t> nodes);
  // The first `max_nodes` nodes below the one that `path`, not empty, leads to from the root, which
  // becomes theirs. Empty if the tree does not have the path, or nothing below it.
  DraftTree Below(std::span<const TokenId> path, int max_nodes) const;
};

// Probability of each node's path: the product of the confidences from the root to it, each taken
// to be in [0, 1].
std::vector<double> PathProbabilities(const DraftTree& tree);

// Checks everything promised above, that tokens are in [0, vocab_size), and that
// there are at most max_nodes nodes. INVALID_ARGUMENT names what is wrong.
absl::Status ValidateDraftTree(const DraftTree& tree, int64_t vocab_size, int max_nodes);

}  // namespace strata

#endif  // STRATA_COMMON_BASE_DRAFT_TREE_H_
