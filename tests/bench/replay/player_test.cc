#include "tests/bench/replay/player.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>

namespace strata::replay {
namespace {

using draft::SequenceAnswer;
using draft::SequenceUpdate;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Tokens = std::vector<TokenId>;

// An update that outlives its call.
struct Sent {
  uint64_t id = 0;
  uint32_t position = 0;
  Tokens tokens;
  uint32_t prompt_length = 0;
  uint32_t budget = 0;
  bool has_feedback = false;
  std::vector<int32_t> accepted;
  Tokens predicted;
  std::vector<RowRanking> rankings;
  bool close = false;
};

// Drafts for a sequence the next chain in `chains` of its id, and writes down what it is sent.
class ScriptedDriver final : public DraftDriver {
 public:
  absl::Status Draft(std::span<const SequenceUpdate> updates, std::vector<SequenceAnswer>& answers,
                     DraftTime& time) override {
    answers.assign(updates.size(), {});
    std::vector<Sent>& message = messages.emplace_back();
    for (size_t i = 0; i < updates.size(); ++i) {
      const SequenceUpdate& update = updates[i];
      message.push_back({update.sequence_id,
                         update.position,
                         Tokens(update.tokens.begin(), update.tokens.end()),
                         update.prompt_length,
                         update.node_budget,
                         update.has_feedback,
                         {update.accepted_nodes.begin(), update.accepted_nodes.end()},
                         Tokens(update.predicted_tokens.begin(), update.predicted_tokens.end()),
                         {update.rankings.begin(), update.rankings.end()},
                         update.close});
      auto& script = chains[update.sequence_id];
      if (update.node_budget == 0 || script.empty()) continue;
      int32_t parent = -1;
      for (const TokenId token : script.front()) {
        parent = answers[i].tree.Add(token, parent, 0.5F, TierKind::kModel);
      }
      script.erase(script.begin());
    }
    time.total_us = 10.0 * static_cast<double>(messages.size());
    if (fail_at == messages.size()) return absl::UnavailableError("gone");
    return absl::OkStatus();
  }
  absl::Status Finish() override { return absl::OkStatus(); }

  std::map<uint64_t, std::vector<Tokens>> chains;
  std::vector<std::vector<Sent>> messages;
  size_t fail_at = 0;
};

Row MakeRow(Tokens prompt, Tokens output) {
  Row row;
  row.category = "qa";
  row.prompt = std::move(prompt);
  row.output = std::move(output);
  return row;
}

TEST(Play, PlaysOneRowAsWorkedByHand) {
  ScriptedDriver driver;
  // Right twice; then wrong; then right beyond what is left of the output.
  driver.chains[1] = {{11, 12, 99}, {99}, {15, 16}};
  const std::vector<Row> rows = {MakeRow({1, 2}, {10, 11, 12, 13, 14, 15})};
  Statistics statistics;
  ASSERT_TRUE(Play(rows, {.budget = 7}, driver, statistics).ok());

  ASSERT_EQ(driver.messages.size(), 4);
  const Sent& first = driver.messages[0][0];
  EXPECT_EQ(first.position, 0);
  EXPECT_THAT(first.tokens, ElementsAre(1, 2, 10));
  EXPECT_EQ(first.prompt_length, 2);
  EXPECT_EQ(first.budget, 7);
  EXPECT_FALSE(first.has_feedback);
  const Sent& second = driver.messages[1][0];
  EXPECT_EQ(second.position, 3);
  EXPECT_THAT(second.tokens, ElementsAre(11, 12, 13));
  EXPECT_TRUE(second.has_feedback);
  EXPECT_THAT(second.accepted, ElementsAre(0, 1));
  const Sent& third = driver.messages[2][0];
  EXPECT_EQ(third.position, 6);
  EXPECT_THAT(third.tokens, ElementsAre(14));
  EXPECT_THAT(third.accepted, IsEmpty());
  // The output ends inside the tree: no token of the model's own follows.
  const Sent& last = driver.messages[3][0];
  EXPECT_THAT(last.tokens, ElementsAre(15));
  EXPECT_THAT(last.accepted, ElementsAre(0));
  EXPECT_TRUE(last.has_feedback);
  EXPECT_TRUE(last.close);
  EXPECT_EQ(last.budget, 0);

  EXPECT_EQ(statistics.total.steps, 3);
  EXPECT_EQ(statistics.total.emitted, 5);
  EXPECT_EQ(statistics.total.drafted, 6);
  EXPECT_THAT(statistics.accepted_by_position, ElementsAre(2, 1));
  // The closing message is not a draft; the first indexes a prompt.
  EXPECT_EQ(statistics.draft_us.count(), 3);
  EXPECT_EQ(statistics.draft_us.Percentile(100), 30);
  EXPECT_EQ(statistics.steady_draft_us.count(), 2);
  EXPECT_EQ(statistics.rpc_us.count(), 0);
}

TEST(Play, KeepsTheBatchFullAndEndsBeforeItBegins) {
  ScriptedDriver driver;
  driver.chains[1] = {{2, 3, 4, 5}};
  const std::vector<Row> rows = {MakeRow({7}, {1, 2, 3, 4, 5}), MakeRow({7}, {1, 2, 3, 4, 5}),
                                 MakeRow({7}, {1, 2, 3, 4}), MakeRow({8}, {1, 2, 3, 4, 5})};
  Statistics statistics;
  ASSERT_TRUE(Play(rows, {.batch = 2}, driver, statistics).ok());
  EXPECT_EQ(statistics.skipped_rows, 1);
  EXPECT_EQ(statistics.total.rows, 3);
  ASSERT_GE(driver.messages.size(), 2);
  ASSERT_EQ(driver.messages[0].size(), 2);
  ASSERT_EQ(driver.messages[1].size(), 3);
  EXPECT_TRUE(driver.messages[1][0].close);
  EXPECT_EQ(driver.messages[1][0].id, 1);
  EXPECT_EQ(driver.messages[1][1].id, 2);
  EXPECT_THAT(driver.messages[1][2].tokens, ElementsAre(8, 1));
  int closed = 0;
  for (const auto& message : driver.messages) {
    for (const Sent& sent : message) closed += sent.close ? 1 : 0;
  }
  EXPECT_EQ(closed, 3);
}

TEST(Play, SendsPredictionsOnceAndRankingsOfWhatWasEmitted) {
  ScriptedDriver driver;
  driver.chains[1] = {{11}};
  Row row = MakeRow({1, 2}, {10, 11, 12, 13, 14});
  row.predicted = {5, 6};
  row.rankings = {{10, 50}, {11, 51}, {12, 52}, {13}};
  Statistics statistics;
  ASSERT_TRUE(Play({&row, 1}, {}, driver, statistics).ok());
  EXPECT_THAT(driver.messages[0][0].predicted, ElementsAre(5, 6));
  EXPECT_THAT(driver.messages[1][0].predicted, IsEmpty());
  const auto& rankings = driver.messages[1][0].rankings;
  ASSERT_EQ(rankings.size(), 2);
  EXPECT_EQ(rankings[0].previous_token, 2);
  EXPECT_EQ(rankings[0].token, 10);
  ASSERT_EQ(rankings[0].size, 2);
  EXPECT_EQ(rankings[0].next_tokens[0], 11);
  EXPECT_EQ(rankings[0].next_tokens[1], 51);
  EXPECT_EQ(rankings[1].previous_token, 10);
  EXPECT_EQ(rankings[1].token, 11);
  // Only the beginning of the output has rankings.
  EXPECT_THAT(driver.messages.back()[0].rankings, IsEmpty());

  ScriptedDriver without;
  ASSERT_TRUE(
      Play({&row, 1}, {.send_predicted = false, .send_rankings = false}, without, statistics).ok());
  EXPECT_THAT(without.messages[0][0].predicted, IsEmpty());
  EXPECT_THAT(without.messages[1][0].rankings, IsEmpty());
}

TEST(Play, StopsAtAnError) {
  ScriptedDriver driver;
  driver.fail_at = 2;
  const std::vector<Row> rows = {MakeRow({7}, {1, 2, 3, 4, 5})};
  Statistics statistics;
  EXPECT_EQ(Play(rows, {}, driver, statistics).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(driver.messages.size(), 2);
  EXPECT_EQ(statistics.total.steps, 1);
}

}  // namespace
}  // namespace strata::replay
