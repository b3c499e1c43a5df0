#include "services/verify/scheduler/pace.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "services/verify/scheduler/node_budget.h"
#include "tests/verify/linear_cost.h"

namespace strata::verify {
namespace {

DraftTree Chain(int nodes, double confidence) {
  DraftTree tree;
  for (int i = 0; i < nodes; ++i) {
    tree.Add(i, i - 1, static_cast<float>(confidence), TierKind::kModel);
  }
  return tree;
}

TEST(Lead, IsWhatDraftsGainedLessWhatTheyCost) {
  Lead lead;
  const double start = lead.steps();
  EXPECT_FALSE(lead.behind());
  lead.Add(3, 1.25);
  EXPECT_DOUBLE_EQ(lead.steps(), start + 1.75);
  for (int i = 0; i < 1000; ++i) lead.Add(1, 1.5);
  EXPECT_TRUE(lead.behind());
  // A little luck is enough to be even again.
  lead.Add(6, 1.5);
  EXPECT_FALSE(lead.behind());
}

TEST(SlowedPlaces, AreAShareOfThoseThatEnd) {
  SlowedPlaces places(0.25);
  EXPECT_EQ(places.Of(8), 1);
  EXPECT_EQ(places.Of(0), 0);
  places.End(true, 8);
  EXPECT_EQ(places.Of(8), 0);
  int slowed = 0;
  constexpr int kRequests = 1000;
  for (int i = 0; i < kRequests; ++i) {
    const bool behind = places.Of(8) > 0;
    slowed += behind ? 1 : 0;
    places.End(behind, 8);
  }
  EXPECT_NEAR(slowed, kRequests / 4.0, 1);
  for (int i = 0; i < kRequests; ++i) places.End(false, 8);
  EXPECT_EQ(places.Of(8), 2);
  // Of many that are under way a share may be behind at a time, not just two.
  for (int i = 0; i < kRequests; ++i) places.End(false, 32);
  EXPECT_EQ(places.Of(32), 8);
  EXPECT_EQ(places.Of(8), 2);
  places.End(false, 8);
  EXPECT_EQ(places.Of(32), 2);

  SlowedPlaces none(0);
  for (int i = 0; i < 100; ++i) none.End(false, 8);
  EXPECT_EQ(none.Of(8), 0);
  SlowedPlaces all(1);
  all.End(true, 8);
  EXPECT_EQ(all.Of(8), 8);
}

// Steps are longer for all that share them.
TEST(Pace, NobodyIsSlowedDownByWhatOthersGain) {
  const DraftTree tree = Chain(3, 0.95);
  NodeBudget budget(Linear(1e-3));
  // Alone, or beside one whose lead does not matter, all three are worth their rows.
  const NodeBudget::Offer free[] = {{&tree, 0}, {nullptr, 0}};
  EXPECT_EQ(budget.Choose(free)[0].size(), 3u);
  // Beside one that is where plain steps would have brought it, none is.
  const NodeBudget::Offer even[] = {{&tree, 0, 0}, {nullptr, 0, 0}};
  EXPECT_TRUE(budget.Choose(even)[0].empty());
  // A plain step is one of 11 ms: one that is 0.2 of it ahead can spare two rows of 1 ms.
  const NodeBudget::Offer ahead[] = {{&tree, 0, 0}, {nullptr, 0, 0.2}};
  EXPECT_EQ(budget.Choose(ahead)[0].size(), 2u);
  // So can one that gains itself.
  const NodeBudget::Offer both[] = {{&tree, 0, 0}, {&tree, 0, 0}};
  EXPECT_EQ(budget.Choose(both)[0].size() + budget.Choose(both)[1].size(), 6u);
  // And one of two that may fall behind is not waited for.
  EXPECT_EQ(budget.Choose(even, 0, 1)[0].size(), 3u);
  const NodeBudget::Offer two[] = {{&tree, 0, 0}, {nullptr, 0, 0}, {nullptr, 0, 0}};
  EXPECT_TRUE(budget.Choose(two, 0, 1)[0].empty());
}

// Two rows are 2 of 11 ms, and would be 2 of 111: the same 2 ms to whoever waits.
TEST(Pace, RowsOfPromptsAreNoReasonToSlowDownOthers) {
  const DraftTree tree = Chain(2, 0.95);
  NodeBudget budget(Linear(1e-3));
  const NodeBudget::Offer offers[] = {{&tree, 0, 0}, {nullptr, 0, 0.05}};
  EXPECT_TRUE(budget.Choose(offers)[0].empty());
  EXPECT_TRUE(budget.Choose(offers, 100)[0].empty());
  const NodeBudget::Offer ahead[] = {{&tree, 0, 0}, {nullptr, 0, 0.2}};
  EXPECT_EQ(budget.Choose(ahead)[0].size(), 2u);
  EXPECT_EQ(budget.Choose(ahead, 100)[0].size(), 2u);
}

struct Outcome {
  double slowed = 0;  // share of requests below 0.98 of plain speed
  double gain = 0;    // tokens a second, relative to plain
};

// Requests of 128 tokens, so many at a time; each has luck of its own, `unlucky` of them have
// nearly none, and their drafts know.
Outcome Serve(double share, size_t sequences = 8, double unlucky = 0.01, double row = 0.5e-3) {
  constexpr int kTokens = 128;
  constexpr int kRequests = 1000;
  struct Running {
    double luck = 0;
    DraftTree tree;
    Lead lead;
    int tokens = 0;
    double seconds = 0;
  };
  std::mt19937 random(11);
  std::uniform_real_distribution<double> uniform(0, 1);
  const auto begin = [&] {
    Running running;
    running.luck = uniform(random) < unlucky ? 0.05 : 0.3 + 0.5 * uniform(random);
    running.tree = Chain(6, running.luck);
    return running;
  };
  NodeBudget budget(Linear(row));
  SlowedPlaces places(share);
  const double plain = budget.cost().Estimate(static_cast<int64_t>(sequences), 0);
  std::vector<Running> running(sequences);
  for (Running& one : running) one = begin();
  Outcome outcome;
  double seconds = 0;
  for (int ended = 0; ended < kRequests;) {
    std::vector<NodeBudget::Offer> offers;
    for (const Running& one : running) offers.push_back({&one.tree, 0, one.lead.steps()});
    const auto kept = budget.Choose(offers, 0, places.Of(static_cast<int64_t>(sequences)));
    auto rows = static_cast<int64_t>(sequences);
    for (const auto& nodes : kept) rows += static_cast<int64_t>(nodes.size());
    const double taken = budget.cost().Estimate(rows, 0);
    seconds += taken;
    for (size_t i = 0; i < sequences; ++i) {
      Running& one = running[i];
      int got = 1;
      while (got <= static_cast<int>(kept[i].size()) && uniform(random) < one.luck) ++got;
      one.tokens += got;
      one.seconds += taken;
      one.lead.Add(static_cast<uint32_t>(got), taken / plain);
      if (one.tokens < kTokens) continue;
      ++ended;
      places.End(one.lead.behind(), static_cast<int64_t>(sequences));
      if (one.seconds / one.tokens > plain / 0.98) outcome.slowed += 1.0 / kRequests;
      outcome.gain += one.tokens;
      one = begin();
    }
  }
  outcome.gain *= plain / seconds / static_cast<double>(sequences);
  return outcome;
}

TEST(Pace, FewAreSlowedDownAndAllTogetherGain) {
  const Outcome free = Serve(1);
  const Outcome kept = Serve(0.03);
  EXPECT_GT(free.slowed, 0.1);
  EXPECT_LT(kept.slowed, 0.05);
  EXPECT_GT(kept.gain, 1.02);
  EXPECT_GT(free.gain, kept.gain);

  // Also where many are under way, and rows cost little, as on a GPU: those who gain nothing, fewer
  // than may be slower, do not keep all others from it.
  const Outcome many = Serve(0.2, 32, 0.05, 0.05e-3);
  EXPECT_LT(many.slowed, 0.1);
  EXPECT_GT(many.gain, 1.25);
  RecordProperty("many", std::to_string(many.slowed) + " slowed, " + std::to_string(many.gain));
  RecordProperty("free", std::to_string(free.slowed) + " slowed, " + std::to_string(free.gain));
  RecordProperty("kept", std::to_string(kept.slowed) + " slowed, " + std::to_string(kept.gain));
}

}  // namespace
}  // namespace strata::verify
