#include "common/base/draft_tree.h"

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace strata {

const char* TierName(TierKind tier) {
  switch (tier) {
    case TierKind::kPredicted:
      return "predicted";
    case TierKind::kContext:
      return "context";
    case TierKind::kModel:
      return "model";
    case TierKind::kCorpus:
      return "corpus";
    case TierKind::kRecycled:
      return "recycled";
    case TierKind::kUnspecified:
      break;
  }
  return "unspecified";
}

void DraftTree::Clear() {
  tokens.clear();
  parents.clear();
  confidences.clear();
  tiers.clear();
}

int DraftTree::Add(TokenId token, int32_t parent, float confidence, TierKind tier) {
  tokens.push_back(token);
  parents.push_back(parent);
  confidences.push_back(confidence);
  tiers.push_back(tier);
  return size() - 1;
}

int DraftTree::FindChild(int32_t parent, TokenId token) const {
  for (int i = parent + 1; i < size(); ++i) {
    if (parents[i] == parent && tokens[i] == token) return i;
  }
  return -1;
}

void DraftTree::Truncate(int nodes) {
  if (nodes >= size()) return;
  tokens.resize(nodes);
  parents.resize(nodes);
  confidences.resize(nodes);
  tiers.resize(nodes);
}

void DraftTree::Keep(std::span<const int32_t> nodes) {
  std::vector<int32_t> place(tokens.size(), -1);
  for (size_t i = 0; i < nodes.size(); ++i) {
    const auto from = static_cast<size_t>(nodes[i]);
    place[from] = static_cast<int32_t>(i);
    // i <= from: what is written over was read before.
    tokens[i] = tokens[from];
    parents[i] = parents[from] < 0 ? -1 : place[static_cast<size_t>(parents[from])];
    confidences[i] = confidences[from];
    tiers[i] = tiers[from];
  }
  Truncate(static_cast<int>(nodes.size()));
}

DraftTree DraftTree::Below(std::span<const TokenId> path, int max_nodes) const {
  DraftTree below;
  int32_t root = -1;
  for (const TokenId token : path) {
    root = FindChild(root, token);
    if (root < 0) return below;
  }
  constexpr int32_t kElsewhere = -2;
  std::vector<int32_t> place(tokens.size(), kElsewhere);
  place[static_cast<size_t>(root)] = -1;
  for (int32_t i = root + 1; i < size() && below.size() < max_nodes; ++i) {
    const auto node = static_cast<size_t>(i);
    if (parents[node] < root) continue;
    const int32_t parent = place[static_cast<size_t>(parents[node])];
    if (parent == kElsewhere) continue;
    place[node] = below.Add(tokens[node], parent, confidences[node], tiers[node]);
  }
  return below;
}

std::vector<double> PathProbabilities(const DraftTree& tree) {
  std::vector<double> path(tree.tokens.size());
  for (size_t i = 0; i < path.size(); ++i) {
    const double above = tree.parents[i] < 0 ? 1.0 : path[static_cast<size_t>(tree.parents[i])];
    path[i] = above * std::clamp(static_cast<double>(tree.confidences[i]), 0.0, 1.0);
  }
  return path;
}

absl::Status ValidateDraftTree(const DraftTree& tree, int64_t vocab_size, int max_nodes) {
  const size_t n = tree.tokens.size();
  if (tree.parents.size() != n || tree.confidences.size() != n || tree.tiers.size() != n) {
    return absl::InvalidArgumentError(absl::StrCat(
        "draft tree lists differ in length: ", n, " tokens, ", tree.parents.size(), " parents, ",
        tree.confidences.size(), " confidences, ", tree.tiers.size(), " tiers"));
  }
  if (n > static_cast<size_t>(max_nodes)) {
    return absl::InvalidArgumentError(
        absl::StrCat("draft tree has ", n, " nodes, at most ", max_nodes, " were asked for"));
  }
  // Nodes by parent and token, which tell them apart.
  std::vector<std::pair<uint64_t, size_t>> children;
  children.reserve(n);
  for (size_t i = 0; i < n; ++i) {
    if (tree.tokens[i] < 0 || tree.tokens[i] >= vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat(
          "draft node ", i, " has token ", tree.tokens[i], ", outside [0, ", vocab_size, ")"));
    }
    if (tree.parents[i] < -1 || tree.parents[i] >= static_cast<int32_t>(i)) {
      return absl::InvalidArgumentError(absl::StrCat("draft node ", i, " has parent ",
                                                     tree.parents[i], ", outside [-1, ", i, ")"));
    }
    if (!(tree.confidences[i] >= 0.0f && tree.confidences[i] <= 1.0f)) {
      return absl::InvalidArgumentError(absl::StrCat("draft node ", i, " has confidence ",
                                                     tree.confidences[i], ", outside [0, 1]"));
    }
    children.emplace_back(
        static_cast<uint64_t>(tree.parents[i] + 1) << 32 | static_cast<uint32_t>(tree.tokens[i]),
        i);
  }
  std::sort(children.begin(), children.end());
  const auto twin =
      std::adjacent_find(children.begin(), children.end(),
                         [](const auto& a, const auto& b) { return a.first == b.first; });
  if (twin != children.end()) {
    const size_t i = std::next(twin)->second;
    return absl::InvalidArgumentError(absl::StrCat(
        "draft node ", i, " repeats token ", tree.tokens[i], " below parent ", tree.parents[i]));
  }
  return absl::OkStatus();
}

}  // namespace strata
