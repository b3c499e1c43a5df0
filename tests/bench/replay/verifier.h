#ifndef STRATA_TESTS_BENCH_REPLAY_VERIFIER_H_
#define STRATA_TESTS_BENCH_REPLAY_VERIFIER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "common/base/draft_tree.h"

namespace strata::replay {

// The nodes of `tree` that a greedy model accepts whose next tokens are `expected`: the longest
// path from the root that spells a beginning of it. `tree` must be valid (ValidateDraftTree).
//
//   tokens {7, 8, 9}, parents {-1, 0, 0}; expected {7, 9, 5}: nodes {0, 2} are accepted.
std::vector<int32_t> AcceptedPath(const DraftTree& tree, std::span<const TokenId> expected);

}  // namespace strata::replay

#endif  // STRATA_TESTS_BENCH_REPLAY_VERIFIER_H_
