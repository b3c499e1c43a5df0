#include "common/base/draft_tree.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace strata {
namespace {

//  -1 ─ 5 (0) ─ 7 (2) ─ 5 (5)
//     │       └ 8 (3) ─ 9 (6)
//     └ 6 (1) ─ 7 (4)
DraftTree Example() {
  DraftTree tree;
  tree.Add(5, -1, 0.5f, TierKind::kContext);
  tree.Add(6, -1, 0.25f, TierKind::kModel);
  tree.Add(7, 0, 0.75f, TierKind::kCorpus);
  tree.Add(8, 0, 0.125f, TierKind::kContext);
  tree.Add(7, 1, 0.5f, TierKind::kModel);
  tree.Add(5, 2, 0.25f, TierKind::kRecycled);
  tree.Add(9, 3, 1.0f, TierKind::kContext);
  return tree;
}

TEST(DraftTree, BelowHangsASubtreeFromTheRoot) {
  const DraftTree below = Example().Below(std::vector<TokenId>{5}, 10);
  EXPECT_EQ(below.tokens, (std::vector<TokenId>{7, 8, 5, 9}));
  EXPECT_EQ(below.parents, (std::vector<int32_t>{-1, -1, 0, 1}));
  EXPECT_EQ(below.confidences, (std::vector<float>{0.75f, 0.125f, 0.25f, 1.0f}));
  EXPECT_EQ(below.tiers, (std::vector<TierKind>{TierKind::kCorpus, TierKind::kContext,
                                                TierKind::kRecycled, TierKind::kContext}));
  EXPECT_EQ(Example().Below(std::vector<TokenId>{5, 8}, 10).tokens, (std::vector<TokenId>{9}));
  EXPECT_EQ(Example().Below(std::vector<TokenId>{6}, 10).tokens, (std::vector<TokenId>{7}));
}

TEST(DraftTree, BelowIsEmptyWhereThePathOrTheTreeEnds) {
  for (const std::vector<TokenId>& path :
       std::vector<std::vector<TokenId>>{{9}, {5, 9}, {5, 7, 5}, {6, 7}, {6, 7, 5}, {7}}) {
    EXPECT_TRUE(Example().Below(path, 10).empty());
  }
  EXPECT_TRUE(Example().Below(std::vector<TokenId>{5}, 0).empty());
  EXPECT_TRUE(DraftTree().Below(std::vector<TokenId>{5}, 10).empty());
}

TEST(DraftTree, BelowKeepsTheFirstNodes) {
  const DraftTree below = Example().Below(std::vector<TokenId>{5}, 3);
  EXPECT_EQ(below.tokens, (std::vector<TokenId>{7, 8, 5}));
  EXPECT_EQ(below.parents, (std::vector<int32_t>{-1, -1, 0}));
}

// Every node of a random tree, found by the tokens that lead to it, has below it what the tree has.
TEST(DraftTree, BelowAgreesWithPathsOneByOne) {
  std::mt19937 random(3);
  for (int trial = 0; trial < 200; ++trial) {
    DraftTree tree;
    for (int i = 0; i < 40; ++i) {
      const auto parent =
          static_cast<int32_t>(random() % static_cast<unsigned>(tree.size() + 1)) - 1;
      const auto token = static_cast<TokenId>(random() % 6);
      if (tree.FindChild(parent, token) < 0) {
        tree.Add(token, parent, 0.5f, TierKind::kContext);
      }
    }
    const auto path_to = [&tree](int32_t node, int32_t root) {
      std::vector<TokenId> path;
      for (; node != root; node = tree.parents[static_cast<size_t>(node)]) {
        if (node < 0) return std::vector<TokenId>();
        path.insert(path.begin(), tree.tokens[static_cast<size_t>(node)]);
      }
      return path;
    };
    for (int32_t root = 0; root < tree.size(); ++root) {
      const DraftTree below = tree.Below(path_to(root, -1), tree.size());
      EXPECT_TRUE(ValidateDraftTree(below, 6, tree.size()).ok());
      std::vector<std::vector<TokenId>> want;
      for (int32_t node = root + 1; node < tree.size(); ++node) {
        if (auto path = path_to(node, root); !path.empty()) want.push_back(std::move(path));
      }
      ASSERT_EQ(static_cast<size_t>(below.size()), want.size());
      for (int32_t i = 0; i < below.size(); ++i) {
        std::vector<TokenId> path;
        for (int32_t at = i; at >= 0; at = below.parents[static_cast<size_t>(at)]) {
          path.insert(path.begin(), below.tokens[static_cast<size_t>(at)]);
        }
        EXPECT_EQ(path, want[static_cast<size_t>(i)]);
      }
    }
  }
}

}  // namespace
}  // namespace strata
