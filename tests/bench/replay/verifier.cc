#include "tests/bench/replay/verifier.h"

namespace strata::replay {

std::vector<int32_t> AcceptedPath(const DraftTree& tree, std::span<const TokenId> expected) {
  std::vector<int32_t> path;
  int32_t last = -1;
  // One pass does: children come after their parents.
  for (int32_t i = 0; i < tree.size() && path.size() < expected.size(); ++i) {
    if (tree.parents[i] != last || tree.tokens[i] != expected[path.size()]) continue;
    path.push_back(i);
    last = i;
  }
  return path;
}

}  // namespace strata::replay
