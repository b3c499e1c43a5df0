#include "tests/bench/replay/verifier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace strata::replay {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<int32_t> Accept(const DraftTree& tree, const std::vector<TokenId>& expected) {
  return AcceptedPath(tree, expected);
}

//        root
//      0:7    1:8
//   2:9  3:7    4:9
//        5:9      6:7
DraftTree Branching() {
  DraftTree tree;
  const std::vector<std::pair<TokenId, int32_t>> nodes = {{7, -1}, {8, -1}, {9, 0}, {7, 0},
                                                          {9, 1},  {9, 3},  {7, 4}};
  for (const auto& [token, parent] : nodes) tree.Add(token, parent, 0.5F, TierKind::kContext);
  return tree;
}

TEST(AcceptedPath, FollowsTheBranchThatIsRight) {
  EXPECT_THAT(Accept(Branching(), {7, 7, 9, 1}), ElementsAre(0, 3, 5));
  EXPECT_THAT(Accept(Branching(), {8, 9, 7, 1}), ElementsAre(1, 4, 6));
  EXPECT_THAT(Accept(Branching(), {7, 9, 7}), ElementsAre(0, 2));
}

TEST(AcceptedPath, DoesNotTakeARightTokenOnAnotherBranch) {
  // 9 comes below 0 and 1 alone, 8 below the root alone.
  EXPECT_THAT(Accept(Branching(), {9, 7}), IsEmpty());
  EXPECT_THAT(Accept(Branching(), {7, 8}), ElementsAre(0));
  EXPECT_THAT(Accept(Branching(), {8, 7}), ElementsAre(1));
}

TEST(AcceptedPath, EndsWithTheOutput) {
  EXPECT_THAT(Accept(Branching(), {7, 7}), ElementsAre(0, 3));
  EXPECT_THAT(Accept(Branching(), {}), IsEmpty());
}

TEST(AcceptedPath, AcceptsNothingOfAnEmptyTree) {
  EXPECT_THAT(Accept(DraftTree(), {1, 2}), IsEmpty());
}

}  // namespace
}  // namespace strata::replay
