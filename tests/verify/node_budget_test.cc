#include "services/verify/scheduler/node_budget.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/verify/linear_cost.h"

namespace strata::verify {
namespace {

DraftTree Chain(std::initializer_list<float> confidences) {
  DraftTree tree;
  for (const float confidence : confidences) {
    tree.Add(tree.size(), tree.size() - 1, confidence, TierKind::kContext);
  }
  return tree;
}

DraftTree RandomTree(std::mt19937& random, int nodes) {
  DraftTree tree;
  std::uniform_real_distribution<float> confidence(0, 1);
  for (int i = 0; i < nodes; ++i) {
    tree.Add(i, static_cast<int32_t>(random() % (i + 1)) - 1, confidence(random), TierKind::kModel);
  }
  return tree;
}

TEST(PathProbabilities, AreProducts) {
  DraftTree tree = Chain({0.5f, 0.5f, 1.0f});
  tree.Add(9, 0, 0.25f, TierKind::kModel);
  EXPECT_EQ(PathProbabilities(tree), (std::vector<double>{0.5, 0.25, 0.25, 0.125}));
}

// A token takes 1.25 ms of a step of eight sequences; beside a prompt of 200 rows it would seem to
// take 26, and the unlikeliest draft to be worth its row.
TEST(NodeBudget, RowsOfPromptsAreNoReasonToVerifyMore) {
  DraftTree tree;
  for (int i = 0; i < 12; ++i) {
    tree.Add(i, -1, 0.9f / static_cast<float>(1 + i), TierKind::kContext);
  }
  for (const double per_row : {0.1e-3, 0.3e-3, 0.6e-3}) {
    NodeBudget budget(Linear(per_row));
    const std::vector<NodeBudget::Offer> offers(8, NodeBudget::Offer{&tree, 10});
    const auto alone = budget.Choose(offers);
    EXPECT_EQ(budget.Choose(offers, 200), alone);
    EXPECT_GT(alone[0].size(), 0u);
    EXPECT_LT(alone[0].size(), 12u);
  }
}

TEST(NodeBudget, TakesAllWhileNothingIsKnown) {
  NodeBudget budget{StepCost()};
  const DraftTree tree = Chain({0.1f, 0.1f, 0.1f});
  const NodeBudget::Offer offers[] = {{&tree, 10}, {nullptr, 10}};
  EXPECT_EQ(budget.Choose(offers), (std::vector<std::vector<int32_t>>{{0, 1, 2}, {}}));
  EXPECT_TRUE(budget.Choose({}).empty());
}

TEST(NodeBudget, TakesWhatPaysForItsRow) {
  // One sequence: a row is worth it if its probability is above its share of a step's time.
  const DraftTree tree = Chain({0.9f, 0.9f, 0.9f, 0.5f, 0.1f, 0.1f});
  const NodeBudget::Offer offers[] = {{&tree, 0}};
  EXPECT_EQ(NodeBudget(Linear(0)).Choose(offers)[0].size(), 6u);
  EXPECT_EQ(NodeBudget(Linear(1e-3)).Choose(offers)[0].size(), 4u);
  EXPECT_EQ(NodeBudget(Linear(9.5e-3)).Choose(offers)[0].size(), 0u);
}

// Against trying every number of nodes, and every set of parents-first nodes by brute force.
TEST(NodeBudget, NoOtherChoiceIsBetter) {
  std::mt19937 random(5);
  for (int round = 0; round < 300; ++round) {
    const double per_row = 1e-4 * static_cast<double>(random() % 60);
    const StepCost cost = Linear(per_row);
    NodeBudget budget(cost);
    const DraftTree a = RandomTree(random, 1 + static_cast<int>(random() % 6));
    const DraftTree b = RandomTree(random, 1 + static_cast<int>(random() % 5));
    const NodeBudget::Offer offers[] = {{&a, 0}, {&b, 0}};
    const auto rate = [&](const std::vector<std::vector<int32_t>>& kept) {
      double tokens = 2;
      int64_t rows = 2;
      for (size_t i = 0; i < 2; ++i) {
        const std::vector<double> path = PathProbabilities(*offers[i].tree);
        for (const int32_t node : kept[i]) tokens += path[static_cast<size_t>(node)];
        rows += static_cast<int64_t>(kept[i].size());
      }
      return tokens / cost.Estimate(rows, 0);
    };
    const std::vector<std::vector<int32_t>> chosen = budget.Choose(offers);
    const double got = rate(chosen);
    for (unsigned set = 0; set < 1u << (a.size() + b.size()); ++set) {
      std::vector<std::vector<int32_t>> kept(2);
      bool closed = true;
      for (int i = 0; i < a.size() + b.size(); ++i) {
        if ((set >> i & 1) == 0) continue;
        const bool first = i < a.size();
        const int node = first ? i : i - a.size();
        const int32_t parent = (first ? a : b).parents[static_cast<size_t>(node)];
        closed &= parent < 0 || (set >> (parent + (first ? 0 : a.size())) & 1) != 0;
        kept[first ? 0 : 1].push_back(node);
      }
      if (closed) {
        ASSERT_LE(rate(kept), got * (1 + 1e-9)) << "round " << round << " set " << set;
      }
    }
    for (size_t i = 0; i < 2; ++i) {
      DraftTree tree = *offers[i].tree;
      ASSERT_TRUE(std::is_sorted(chosen[i].begin(), chosen[i].end()));
      tree.Keep(chosen[i]);
      EXPECT_TRUE(ValidateDraftTree(tree, 100, 100).ok());
    }
  }
}

// Confidences of 0.9 that never come true.
TEST(NodeBudget, ASourceThatOverstatesIsNotBelievedForLong) {
  NodeBudget budget(Linear(1e-3));
  const DraftTree tree = Chain({0.9f, 0.9f});
  const NodeBudget::Offer offers[] = {{&tree, 0}};
  EXPECT_EQ(budget.Choose(offers)[0].size(), 2u);
  int steps = 0;
  while (!budget.Choose(offers)[0].empty() && steps < 1000) {
    budget.LearnVerdict(tree, {});
    budget.LearnStep(3, 0, 1e-4, 12e-3);
    ++steps;
  }
  EXPECT_LT(steps, 100);
  // From time to time it is asked again, and believed again if it has learned.
  int asked = 0;
  for (int i = 0; i < 1000; ++i) {
    if (!budget.WorthAsking(1)) continue;
    ++asked;
    EXPECT_TRUE(budget.Choose(offers)[0].empty());
  }
  EXPECT_GE(asked, 100);
  EXPECT_LE(asked, 130);
}

// As with a small model on a GPU, where to draft takes as long as a step.
TEST(NodeBudget, QuestionsInVainTakeLittleTime) {
  const DraftTree tree = Chain({0.01f});
  const NodeBudget::Offer offers[] = {{&tree, 0}};
  for (const double wait : {0.1e-3, 1e-3, 4e-3, 10e-3}) {
    NodeBudget budget(Linear(1e-3));
    double waited = 0, seconds = 0;
    int dormant = 0;
    for (int step = 0; step < 3000; ++step) {
      const bool is_dormant = budget.Dormant();
      const bool asks = budget.WorthAsking(1);
      EXPECT_FALSE(is_dormant && asks);
      if (asks) {
        EXPECT_TRUE(budget.Choose(offers)[0].empty());
      }
      budget.LearnStep(1, 0, asks ? wait : 0, 10e-3);
      if (step < 500) continue;
      waited += asks ? wait : 0;
      dormant += is_dormant ? 1 : 0;
      seconds += 10e-3 + (asks ? wait : 0);
    }
    EXPECT_LT(waited / seconds, 0.022) << wait;
    // What makes drafts better is left out, but for those that are asked for.
    EXPECT_GT(dormant, 2000);
    EXPECT_LT(dormant, 2500);
  }
}

// Where many found drafts not worth their while, one who is left asks at once.
TEST(NodeBudget, FewAreNotKeptFromAskingByWhatManyFound) {
  const DraftTree tree = Chain({0.01f});
  const std::vector<NodeBudget::Offer> offers(16, NodeBudget::Offer{&tree, 0});
  NodeBudget budget(Linear(1e-3));
  const auto serve = [&](size_t sequences) {
    const bool asks = budget.WorthAsking(sequences);
    if (asks) budget.Choose(std::span(offers).first(sequences));
    budget.LearnStep(static_cast<int64_t>(sequences), 0, asks ? 10e-3 : 0, 10e-3);
    return asks;
  };
  for (int step = 0; step < 1000; ++step) serve(16);
  while (serve(16)) {
  }
  EXPECT_FALSE(serve(12));
  EXPECT_TRUE(serve(8));
  EXPECT_TRUE(serve(1));
}

TEST(NodeBudget, IsNotDormantWhereDraftsPay) {
  NodeBudget budget(Linear(1e-4));
  const DraftTree tree = Chain({0.9f});
  const NodeBudget::Offer offers[] = {{&tree, 0}};
  for (int step = 0; step < 100; ++step) {
    EXPECT_TRUE(budget.WorthAsking(1));
    budget.Choose(offers);
    budget.LearnStep(2, 0, 1e-4, 10e-3);
    EXPECT_FALSE(budget.Dormant());
  }
}

// However long drafts have not paid: a text that is copied from begins at some step.
TEST(NodeBudget, ABurstIsFollowed) {
  NodeBudget budget(Linear(1e-3));
  const DraftTree poor = Chain({0.01f});
  const DraftTree likely = Chain({0.9f, 0.9f});
  int asked = 0;
  for (int step = 0; step < 1020; ++step) {
    const bool burst = step >= 1000;
    if (!budget.WorthAsking(1)) continue;
    asked += burst ? 1 : 0;
    const NodeBudget::Offer offers[] = {{burst ? &likely : &poor, 0}};
    EXPECT_EQ(budget.Choose(offers)[0].size(), burst ? 2u : 0u);
    budget.LearnStep(burst ? 3 : 1, 0, 1e-3, burst ? 12e-3 : 10e-3);
  }
  EXPECT_GE(asked, 12);
}

TEST(NodeBudget, WaitingForDraftsIsPartOfThePrice) {
  const DraftTree tree = Chain({0.3f});
  const NodeBudget::Offer offers[] = {{&tree, 0}};
  for (const double wait : {1e-5, 50e-3}) {
    NodeBudget budget(Linear(1e-4));
    int asked = 0;
    for (int i = 0; i < 400; ++i) {
      if (!budget.WorthAsking(1)) continue;
      ++asked;
      const auto kept = budget.Choose(offers);
      budget.LearnVerdict(tree, i % 10 < 3 ? std::vector<int32_t>{0} : std::vector<int32_t>());
      budget.LearnStep(2, 0, wait, 10.1e-3);
    }
    if (wait < 1e-3) {
      EXPECT_EQ(asked, 400);
    } else {
      EXPECT_LT(asked, 80);
    }
  }
}

TEST(NodeBudget, AsksForWhatWasOfUse) {
  NodeBudget budget(Linear(3e-3));
  EXPECT_GT(budget.Wanted(1), 1000u);
  const DraftTree tree = Chain({0.9f, 0.9f, 0.01f, 0.9f, 0.9f, 0.9f, 0.9f, 0.9f, 0.9f, 0.9f, 0.9f});
  const NodeBudget::Offer offers[] = {{&tree, 0}};
  for (int i = 0; i < 100; ++i) EXPECT_EQ(budget.Choose(offers)[0].size(), 2u);
  EXPECT_GE(budget.Wanted(1), 4u);
  EXPECT_LE(budget.Wanted(1), 12u);
  EXPECT_LE(budget.Wanted(16), 5u);
}

TEST(AcceptanceCurve, CorrectsWhatASourceClaims) {
  AcceptanceCurve curve;
  EXPECT_DOUBLE_EQ(curve.Corrected(0.5), 0.5);
  EXPECT_DOUBLE_EQ(curve.Corrected(0), 0);
  EXPECT_DOUBLE_EQ(curve.Corrected(1), 1);
  std::mt19937 random(2);
  std::uniform_real_distribution<double> uniform(0, 1);
  // The truth is the square of the claim.
  for (int i = 0; i < 40000; ++i) {
    const double claimed = uniform(random);
    curve.Learn(claimed, uniform(random) < claimed * claimed);
    if (i % 16 == 0) curve.EndStep();
  }
  for (const double claimed : {0.1, 0.3, 0.5, 0.7, 0.9}) {
    EXPECT_NEAR(curve.Corrected(claimed), claimed * claimed, 0.08) << claimed;
  }
  for (const AcceptanceCurve::Bin& bin : curve.bins()) {
    EXPECT_LT(bin.low, bin.high);
    EXPECT_LE(bin.accepted, bin.verified);
    EXPECT_GE(bin.claimed, bin.verified * bin.low * 0.999);
    EXPECT_LE(bin.claimed, bin.verified * bin.high * 1.001);
  }
}

}  // namespace
}  // namespace strata::verify
