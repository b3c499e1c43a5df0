#include "tests/bench/replay/statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/bench/replay/report.h"

namespace strata::replay {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Samples, PercentilesAreNearestRank) {
  Samples samples;
  EXPECT_EQ(samples.Percentile(50), 0);
  EXPECT_EQ(samples.Mean(), 0);
  for (int i = 100; i >= 1; --i) samples.Add(i);
  EXPECT_EQ(samples.Percentile(0), 1);
  EXPECT_EQ(samples.Percentile(50), 50);
  EXPECT_EQ(samples.Percentile(99), 99);
  EXPECT_EQ(samples.Percentile(99.1), 100);
  EXPECT_EQ(samples.Percentile(100), 100);
  EXPECT_DOUBLE_EQ(samples.Mean(), 50.5);
}

// Two steps of "math" (a tree of 3, of which 2 are right; an empty one) and one of "qa".
Statistics ThreeSteps() {
  Statistics statistics;
  DraftTree tree;
  tree.Add(5, -1, 1, TierKind::kContext);
  tree.Add(6, -1, 1, TierKind::kModel);
  tree.Add(7, 0, 1, TierKind::kCorpus);
  statistics.AddRow("math");
  statistics.AddStep("math", tree, std::vector<int32_t>{0, 2}, 3);
  statistics.AddStep("math", DraftTree(), {}, 1);
  statistics.AddRow("qa");
  statistics.AddStep("qa", tree, std::vector<int32_t>{1}, 2);
  return statistics;
}

TEST(Statistics, CountsBothByCategoryAndInAll) {
  const Statistics statistics = ThreeSteps();
  EXPECT_EQ(statistics.total.rows, 2);
  EXPECT_EQ(statistics.total.steps, 3);
  EXPECT_DOUBLE_EQ(statistics.total.TokensPerStep(), 6.0 / 3);
  EXPECT_DOUBLE_EQ(statistics.total.DraftedPerStep(), 6.0 / 3);
  ASSERT_EQ(statistics.categories.size(), 3);
  EXPECT_DOUBLE_EQ(statistics.categories.at("math").TokensPerStep(), 2);
  EXPECT_DOUBLE_EQ(statistics.categories.at("math").DraftedPerStep(), 1.5);
  EXPECT_EQ(statistics.categories.at("mtbench").emitted, 4);
  EXPECT_EQ(statistics.categories.at("qa").emitted, 2);
  EXPECT_EQ(Tally().TokensPerStep(), 0);
}

TEST(Statistics, CountsByTierAndPosition) {
  const Statistics statistics = ThreeSteps();
  // unspecified, predicted, context, model, corpus, recycled
  EXPECT_THAT(statistics.drafted_by_tier, ElementsAre(0, 0, 2, 2, 2, 0));
  EXPECT_THAT(statistics.accepted_by_tier, ElementsAre(0, 0, 1, 1, 1, 0));
  EXPECT_THAT(statistics.accepted_by_position, ElementsAre(2, 1));
}

TEST(Report, TellsTheFigures) {
  Statistics statistics = ThreeSteps();
  statistics.draft_us.Add(12);
  EXPECT_THAT(TextReport(statistics), HasSubstr("all                       2        3        6"));
  const auto json = nlohmann::json::parse(JsonReport(statistics));
  EXPECT_EQ(json["tokens_per_step"], 2.0);
  EXPECT_EQ(json["categories"]["mtbench"]["steps"], 2);
  EXPECT_EQ(json["tiers"]["corpus"]["accepted"], 1);
  EXPECT_EQ(json["accepted_by_position"], nlohmann::json({2, 1}));
  EXPECT_EQ(json["draft_us"]["p99"], 12.0);
  EXPECT_FALSE(json.contains("rpc_us"));
}

TEST(Report, CanTellACategoryThatIsNoText) {
  Statistics statistics;
  statistics.AddRow("\xFF");
  EXPECT_FALSE(nlohmann::json::parse(JsonReport(statistics), nullptr, false).is_discarded());
}

}  // namespace
}  // namespace strata::replay
