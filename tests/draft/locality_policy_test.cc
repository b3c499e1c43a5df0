#include "services/draft/hierarchy/locality_policy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "absl/status/status.h"
#include "tests/draft/reference_tier.h"
#include "tests/draft/test_util.h"

namespace strata::draft {
namespace {

const Tokens kContext = {1};

// A tier that was taught `texts`, the last one most recently.
ReferenceTier Taught(TierKind kind, const std::vector<Tokens>& texts) {
  ReferenceTier tier(kind);
  for (const Tokens& text : texts) tier.Teach(text);
  return tier;
}

DraftTree DraftFrom(const std::vector<const Tier*>& tiers, DraftLimits limits,
                    LocalityOptions options = {}, const Tokens& context = kContext) {
  DraftTree tree;
  limits.vocab_size = limits.vocab_size == 0 ? 1000 : limits.vocab_size;
  DraftByLocality(options, tiers, context, limits, absl::InfiniteFuture(), tree);
  const absl::Status status =
      ValidateDraftTree(tree, limits.vocab_size, static_cast<int>(limits.node_budget));
  EXPECT_TRUE(status.ok()) << status;
  return tree;
}

Tokens PathTo(const DraftTree& tree, int node) {
  Tokens path;
  for (int32_t i = node; i >= 0; i = tree.parents[i]) path.insert(path.begin(), tree.tokens[i]);
  return path;
}

TEST(LocalityPolicyTest, DifferentNextTokensFirstThenOtherWaysOn) {
  const ReferenceTier context = Taught(TierKind::kContext, {{1, 9, 10}, {1, 5, 6, 7}, {1, 5, 8}});
  const DraftTree tree = DraftFrom({&context}, {.node_budget = 100});
  // The most recent of each, then what else followed 5.
  EXPECT_EQ(tree.tokens, (Tokens{5, 8, 9, 10, 6, 7}));
  EXPECT_EQ(tree.parents, (std::vector<int32_t>{-1, 0, -1, 2, 0, 4}));
}

TEST(LocalityPolicyTest, LongerContextsFirst) {
  const ReferenceTier context = Taught(TierKind::kContext, {{3, 1, 50}, {2, 1, 60}, {4, 1, 70}});
  EXPECT_EQ(DraftFrom({&context}, {.node_budget = 100}, {}, {2, 1}).tokens, (Tokens{60, 70, 50}));
}

TEST(LocalityPolicyTest, TiersInOrderUntilSevenChains) {
  std::vector<Tokens> five, ten;
  for (int i = 5; i > 0; --i) five.push_back({1, 100 + i});
  for (int i = 8; i > 0; --i) ten.push_back({1, 200 + i});
  const ReferenceTier context = Taught(TierKind::kContext, five);
  const ReferenceTier corpus = Taught(TierKind::kCorpus, ten);
  const DraftTree tree = DraftFrom({nullptr, &context, nullptr, &corpus}, {.node_budget = 100});
  EXPECT_EQ(tree.tokens, (Tokens{101, 102, 103, 104, 105, 201, 202}));
  EXPECT_EQ(tree.tiers[4], TierKind::kContext);
  EXPECT_EQ(tree.tiers[5], TierKind::kCorpus);
}

TEST(LocalityPolicyTest, AChainThatAddsNothingDoesNotCountAndKeepsTheFirstTier) {
  const ReferenceTier context = Taught(TierKind::kContext, {{1, 5, 6}});
  const ReferenceTier model = Taught(TierKind::kModel, {{1, 9}, {1, 8}, {1, 5, 6}});
  const DraftTree tree =
      DraftFrom({&context, &model}, {.node_budget = 100}, {.max_chains = 3, .chain_length = 4});
  EXPECT_EQ(tree.tokens, (Tokens{5, 6, 8, 9}));
  EXPECT_EQ(tree.tiers, (std::vector<TierKind>{TierKind::kContext, TierKind::kContext,
                                               TierKind::kModel, TierKind::kModel}));
}

TEST(LocalityPolicyTest, TheBudgetCutsTheLastChainAndLeavesTheOthersWhole) {
  const ReferenceTier context = Taught(TierKind::kContext, {{1, 4, 5, 6}, {1, 7, 2, 3}});
  EXPECT_EQ(DraftFrom({&context}, {.node_budget = 5}).tokens, (Tokens{7, 2, 3, 4, 5}));
  EXPECT_EQ(DraftFrom({&context}, {.node_budget = 1}).tokens, (Tokens{7}));
  EXPECT_TRUE(DraftFrom({&context}, {.node_budget = 0}).empty());
}

TEST(LocalityPolicyTest, DepthIsTheSmallerOfRequestAndOptions) {
  const ReferenceTier context = Taught(TierKind::kContext, {{1, 2, 3, 4, 5, 6, 7}});
  EXPECT_EQ(DraftFrom({&context}, {.node_budget = 100}).size(), 4);
  EXPECT_EQ(DraftFrom({&context}, {.node_budget = 100, .max_depth = 2}).size(), 2);
  EXPECT_EQ(DraftFrom({&context}, {.node_budget = 100, .max_depth = UINT32_MAX}).size(), 4);
}

TEST(LocalityPolicyTest, TokensOutsideTheVocabularyEndAChain) {
  ReferenceTier corpus = Taught(TierKind::kCorpus, {{1, 40, 50, 2}, {1, 50}});
  corpus.Add(kContext, -1, 3);
  EXPECT_EQ(DraftFrom({&corpus}, {.node_budget = 100, .vocab_size = 50}).tokens, (Tokens{40}));
}

TEST(LocalityPolicyTest, ConfidenceIsTheShareAndSiblingsTakeAtMostAllOfIt) {
  ReferenceTier context(TierKind::kContext), corpus(TierKind::kCorpus);
  context.Add(kContext, 3, 1);
  context.Add(kContext, 9, 3);
  context.Add({1, 9}, 2, 1);
  corpus.Add(kContext, 4, 99);
  const DraftTree tree = DraftFrom({&context, &corpus}, {.node_budget = 100});
  ASSERT_EQ(tree.tokens, (Tokens{9, 2, 3, 4}));
  EXPECT_FLOAT_EQ(tree.confidences[0], 0.6f);
  EXPECT_FLOAT_EQ(tree.confidences[1], 0.6f);
  EXPECT_FLOAT_EQ(tree.confidences[2], 0.2f);
  EXPECT_NEAR(tree.confidences[3], 0.2f, 1e-6);
}

// Whatever tiers say, the tree is valid, within its limits, and every node is a continuation that
// some tier knows of its context.
TEST(LocalityPolicyTest, RandomTiersGiveValidTrees) {
  std::mt19937 random(9);
  for (int trial = 0; trial < 500; ++trial) {
    std::vector<ReferenceTier> tiers;
    for (int t = 0; t < 3; ++t) {
      tiers.push_back(
          Taught(static_cast<TierKind>(t + 2), {RandomTokens(random, 2 + random() % 40, 5),
                                                RandomTokens(random, 2 + random() % 10, 5)}));
    }
    const Tokens context = RandomTokens(random, 1 + random() % 9, 5);
    const DraftLimits limits = {.node_budget = static_cast<uint32_t>(random() % 30),
                                .max_depth = static_cast<uint32_t>(random() % 6)};
    const DraftTree tree = DraftFrom({&tiers[0], &tiers[1], &tiers[2]}, limits, {}, context);
    for (int i = 0; i < tree.size(); ++i) {
      const Tokens path = PathTo(tree, i);
      EXPECT_LE(path.size(), limits.max_depth == 0 ? 4u : std::min(4u, limits.max_depth));
      Tokens before = context;
      before.insert(before.end(), path.begin(), path.end() - 1);
      // The order-1 context alone lists every continuation that longer ones do.
      const ContextTail tail({&before.back(), 1});
      const MatchQuery query = {&tail, 1};
      bool known = false;
      for (const ReferenceTier& tier : tiers) {
        Evidence evidence;
        tier.Match({&query, 1}, 1, {&evidence, 1});
        if (evidence.levels == 0) continue;
        const auto list = evidence.level[0].list();
        known = known || std::any_of(list.begin(), list.end(),
                                     [&](const Continuation& c) { return c.token == path.back(); });
      }
      EXPECT_TRUE(known) << "trial " << trial << ", node " << i;
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
