#include "services/draft/hierarchy/locality_policy.h"

#include <gtest/gtest.h>

#include <array>
#include <set>

#include "absl/status/status.h"
#include "tests/draft/test_util.h"

namespace strata::draft {
namespace {

const Tokens kContext = {1};

Chain MakeChain(Tokens tokens, uint32_t count = 1, uint32_t total = 1) {
  return {std::move(tokens), count, total, 1};
}

DraftTree DraftFrom(const std::vector<const Tier*>& tiers, DraftLimits limits,
                    LocalityOptions options = {}) {
  DraftTree tree;
  limits.vocab_size = limits.vocab_size == 0 ? 1000 : limits.vocab_size;
  DraftByLocality(options, tiers, kContext, limits, tree);
  const absl::Status status =
      ValidateDraftTree(tree, limits.vocab_size, static_cast<int>(limits.node_budget));
  EXPECT_TRUE(status.ok()) << status;
  return tree;
}

TEST(LocalityPolicyTest, ChainsShareTheirBeginnings) {
  const FixedTier context(TierKind::kContext, {MakeChain({5, 6, 7}), MakeChain({5, 8})});
  const DraftTree tree = DraftFrom({&context}, {.node_budget = 100});
  EXPECT_EQ(tree.tokens, (Tokens{5, 6, 7, 8}));
  EXPECT_EQ(tree.parents, (std::vector<int32_t>{-1, 0, 1, 0}));
}

TEST(LocalityPolicyTest, TiersInOrderUntilSevenChains) {
  std::vector<Chain> five, ten;
  for (int i = 0; i < 5; ++i) five.push_back(MakeChain({100 + i}));
  for (int i = 0; i < 10; ++i) ten.push_back(MakeChain({200 + i}));
  const FixedTier context(TierKind::kContext, five), corpus(TierKind::kCorpus, ten);
  const DraftTree tree = DraftFrom({nullptr, &context, nullptr, &corpus}, {.node_budget = 100});
  EXPECT_EQ(tree.tokens, (Tokens{100, 101, 102, 103, 104, 200, 201}));
  EXPECT_EQ(tree.tiers[4], TierKind::kContext);
  EXPECT_EQ(tree.tiers[5], TierKind::kCorpus);
}

TEST(LocalityPolicyTest, AChainThatAddsNothingDoesNotCountAndKeepsTheFirstTier) {
  const FixedTier context(TierKind::kContext, {MakeChain({5, 6})});
  const FixedTier model(TierKind::kModel,
                        {MakeChain({5}), MakeChain({5, 6}), MakeChain({5, 6, 7}), MakeChain({8})});
  const DraftTree tree =
      DraftFrom({&context, &model}, {.node_budget = 100}, {.max_chains = 3, .chain_length = 4});
  EXPECT_EQ(tree.tokens, (Tokens{5, 6, 7, 8}));
  EXPECT_EQ(tree.tiers, (std::vector<TierKind>{TierKind::kContext, TierKind::kContext,
                                               TierKind::kModel, TierKind::kModel}));
}

TEST(LocalityPolicyTest, TheBudgetCutsTheLastChainAndLeavesTheOthersWhole) {
  const FixedTier context(TierKind::kContext, {MakeChain({1, 2, 3}), MakeChain({4, 5, 6})});
  EXPECT_EQ(DraftFrom({&context}, {.node_budget = 5}).tokens, (Tokens{1, 2, 3, 4, 5}));
  EXPECT_EQ(DraftFrom({&context}, {.node_budget = 1}).tokens, (Tokens{1}));
  EXPECT_TRUE(DraftFrom({&context}, {.node_budget = 0}).empty());
}

TEST(LocalityPolicyTest, DepthIsTheSmallerOfRequestAndOptions) {
  const FixedTier context(TierKind::kContext, {MakeChain({1, 2, 3, 4, 5, 6})});
  EXPECT_EQ(DraftFrom({&context}, {.node_budget = 100}).size(), 4);
  EXPECT_EQ(DraftFrom({&context}, {.node_budget = 100, .max_depth = 2}).size(), 2);
  EXPECT_EQ(DraftFrom({&context}, {.node_budget = 100, .max_depth = UINT32_MAX}).size(), 4);
}

TEST(LocalityPolicyTest, TokensOutsideTheVocabularyEndAChain) {
  const FixedTier corpus(TierKind::kCorpus,
                         {MakeChain({1, 50, 2}), MakeChain({50}), MakeChain({-1, 3})});
  EXPECT_EQ(DraftFrom({&corpus}, {.node_budget = 100, .vocab_size = 50}).tokens, (Tokens{1}));
}

TEST(LocalityPolicyTest, ConfidenceIsTheShareAndSiblingsTakeAtMostAllOfIt) {
  const FixedTier context(TierKind::kContext, {MakeChain({1, 2}, 3, 4), MakeChain({3}, 1, 4)});
  const FixedTier corpus(TierKind::kCorpus, {MakeChain({4}, 99, 99)});
  const DraftTree tree = DraftFrom({&context, &corpus}, {.node_budget = 100});
  ASSERT_EQ(tree.size(), 4);
  EXPECT_FLOAT_EQ(tree.confidences[0], 0.6f);
  EXPECT_FLOAT_EQ(tree.confidences[1], 0.6f);
  EXPECT_FLOAT_EQ(tree.confidences[2], 0.2f);
  EXPECT_NEAR(tree.confidences[3], 0.2f, 1e-6);
}

// Whatever tiers say, the tree is valid, within its limits, and made of their chains alone.
TEST(LocalityPolicyTest, RandomTiersGiveValidTrees) {
  std::mt19937 random(9);
  for (int trial = 0; trial < 2000; ++trial) {
    std::vector<FixedTier> tiers;
    std::set<Tokens> paths;
    for (int t = 0; t < 3; ++t) {
      std::vector<Chain> chains;
      for (size_t c = random() % 10; c > 0; --c) {
        const uint32_t total = random() % 5;
        chains.push_back(MakeChain(RandomTokens(random, 1 + random() % 6, 4),
                                   total == 0 ? 0 : static_cast<uint32_t>(random() % (total + 1)),
                                   total));
        for (size_t n = 1; n <= chains.back().tokens.size(); ++n) {
          paths.emplace(chains.back().tokens.begin(), chains.back().tokens.begin() + n);
        }
      }
      tiers.emplace_back(static_cast<TierKind>(t + 2), chains);
    }
    const DraftLimits limits = {.node_budget = static_cast<uint32_t>(random() % 30),
                                .max_depth = static_cast<uint32_t>(random() % 6)};
    const DraftTree tree = DraftFrom({&tiers[0], &tiers[1], &tiers[2]}, limits);
    for (int i = 0; i < tree.size(); ++i) {
      Tokens path;
      for (int32_t node = i; node >= 0; node = tree.parents[node]) {
        path.insert(path.begin(), tree.tokens[node]);
      }
      EXPECT_EQ(paths.count(path), 1u);
      EXPECT_LE(path.size(), limits.max_depth == 0 ? 4u : std::min(4u, limits.max_depth));
    }
  }
}

TEST(LocalityPolicyTest, OptionsOutOfRangeAreNamed) {
  EXPECT_TRUE(ValidateLocalityOptions({}).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(ValidateLocalityOptions({.max_chains = 0})));
  EXPECT_TRUE(absl::IsInvalidArgument(ValidateLocalityOptions({.chain_length = 33})));
}

}  // namespace
}  // namespace strata::draft
