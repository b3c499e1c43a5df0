// A corpus that takes longer than a message has: the answer waits for no more than the batch that
// was asked for when the deadline passed. Told by what is asked after it, not by a watch, so that a
// busy machine cannot fail it.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "common/base/steady_clock.h"
#include "services/draft/hierarchy/hierarchy_drafter.h"
#include "tests/draft/test_util.h"

namespace strata::draft {
namespace {

constexpr int64_t kVocabulary = 1000;
constexpr TokenId kOffered = 7;

// Offers one token after everything. A call sleeps until the deadline that was set has passed, or
// as long as it was told.
class SlowCorpus final : public Tier {
 public:
  // A deadline that leaves time to come here.
  absl::Time Begin() {
    calls_ = 0;
    largest_ = 0;
    deadline_ = SteadyNow() + absl::Milliseconds(500);
    return deadline_;
  }
  void Hurry() { Take(absl::ZeroDuration()); }
  // Each call from here on takes so long.
  void Take(absl::Duration pause) {
    calls_ = 0;
    deadline_ = absl::InfinitePast();
    pause_ = pause;
  }
  // Calls since, and the most queries of one.
  int calls() const { return calls_; }
  size_t largest() const { return largest_; }

  TierKind kind() const override { return TierKind::kCorpus; }
  void Match(std::span<const MatchQuery> queries, int /*levels*/,
             std::span<Evidence> out) const override {
    ++calls_;
    largest_ = std::max<size_t>(largest_, queries.size());
    while (SteadyNow() <= deadline_) absl::SleepFor(absl::Milliseconds(5));
    absl::SleepFor(pause_);
    for (Evidence& evidence : out) {
      evidence.levels = 1;
      ContextCounts& counts = evidence.level[0];
      counts = {.order = 1, .size = 1, .total = 9};
      counts.continuations[0] = {kOffered, 9};
    }
  }

 private:
  // The tests' calls come one after another.
  absl::Time deadline_;
  absl::Duration pause_;
  mutable int calls_ = 0;
  mutable size_t largest_ = 0;
};

struct Batch {
  explicit Batch(size_t size) {
    for (size_t i = 0; i < size; ++i) {
      const auto token = static_cast<TokenId>(100 + i);
      prompts.push_back({token, 50, token});
    }
  }
  std::vector<SequenceUpdate> Start() const {
    std::vector<SequenceUpdate> updates;
    for (size_t i = 0; i < prompts.size(); ++i) {
      updates.push_back({.sequence_id = i, .tokens = prompts[i], .node_budget = 16});
    }
    return updates;
  }
  // Eight tokens more of each, with what came of the last trees.
  std::vector<SequenceUpdate> Continue(uint32_t node_budget) const {
    std::vector<SequenceUpdate> updates;
    for (size_t i = 0; i < prompts.size(); ++i) {
      updates.push_back({.sequence_id = i,
                         .position = 3,
                         .tokens = more,
                         .node_budget = node_budget,
                         .has_feedback = true});
    }
    return updates;
  }
  std::vector<Tokens> prompts;
  const Tokens more = {50, 51, 52, 53, 54, 55, 56, 57};
};

class DrafterDeadlineTest : public ::testing::TestWithParam<Policy> {
 protected:
  DrafterDeadlineTest() {
    DrafterOptions options = {.corpus = corpus_, .tokenizer_fingerprint = "fp"};
    options.policy.policy = GetParam();
    auto drafter = NewDrafter(std::move(options));
    EXPECT_TRUE(drafter.ok()) << drafter.status();
    drafter_ = *std::move(drafter);
    EXPECT_TRUE(drafter_->OpenSession("v", "model", "fp", kVocabulary, &session_).ok());
  }
  std::vector<SequenceAnswer> Send(const std::vector<SequenceUpdate>& updates,
                                   absl::Time deadline) {
    std::vector<SequenceAnswer> answers;
    drafter_->Draft(session_, updates, deadline, answers);
    EXPECT_EQ(answers.size(), updates.size());
    for (const SequenceAnswer& answer : answers) EXPECT_EQ(answer.status, SequenceStatus::kOk);
    return answers;
  }

  const std::shared_ptr<SlowCorpus> corpus_ = std::make_shared<SlowCorpus>();
  std::unique_ptr<Drafter> drafter_;
  uint64_t session_ = 0;
};

TEST_P(DrafterDeadlineTest, AnAnswerWaitsForOneBatchOfTheCorpus) {
  const Batch batch(16);
  const auto answers = Send(batch.Start(), corpus_->Begin());
  EXPECT_EQ(corpus_->calls(), 1);
  // What a sequence itself knew was there by then: of the first one, or of all that grow in step.
  size_t drafted = 0;
  for (const SequenceAnswer& answer : answers) {
    if (answer.tree.empty()) continue;
    ++drafted;
    EXPECT_EQ(answer.tree.tokens[0], 50);
  }
  EXPECT_EQ(drafted, GetParam() == Policy::kCalibrated ? 16u : 1u);
}

// Also not for the batches that a larger message needs.
TEST_P(DrafterDeadlineTest, ALargeMessageWaitsForOneBatchToo) {
  const Batch batch(64);
  Send(batch.Start(), corpus_->Begin());
  EXPECT_EQ(corpus_->calls(), 1);
  EXPECT_LE(corpus_->largest(), kMatchBatch);
}

// Nor for what the corpus knew of what was accepted, before or after the answer.
TEST_P(DrafterDeadlineTest, AnAnswerWaitsForNothingThatIsToBeLearned) {
  const Batch batch(16);
  corpus_->Hurry();
  Send(batch.Start(), absl::InfiniteFuture());
  drafter_->Learn(session_);
  Send(batch.Continue(16), corpus_->Begin());
  EXPECT_EQ(corpus_->calls(), 1);
  // Late: that is left out.
  drafter_->Learn(session_);
  EXPECT_EQ(corpus_->calls(), 1);
}

TEST_P(DrafterDeadlineTest, AfterTheAnswerTheCorpusIsAskedForAllSequencesTogether) {
  const Batch batch(16);
  corpus_->Hurry();
  Send(batch.Start(), absl::InfiniteFuture());
  drafter_->Learn(session_);
  corpus_->Hurry();
  Send(batch.Continue(0), absl::InfiniteFuture());
  EXPECT_EQ(corpus_->calls(), 0);
  drafter_->Learn(session_);
  // 16 times 8 tokens. The locality policy learns nothing.
  EXPECT_EQ(corpus_->calls(),
            GetParam() == Policy::kCalibrated ? 16 * 8 / static_cast<int>(kMatchBatch) : 0);
}

// The chains of one sequence alone would take all of the time.
TEST_P(DrafterDeadlineTest, NoSequenceTakesTheTimeOfTheOthers) {
  const Batch batch(4);
  corpus_->Take(absl::Milliseconds(250));
  const auto answers = Send(batch.Start(), SteadyNow() + absl::Seconds(2));
  for (const SequenceAnswer& answer : answers) {
    EXPECT_FALSE(answer.tree.empty()) << answer.sequence_id;
  }
}

// Also where the others are drafted by the calibrated policy, after it.
TEST_P(DrafterDeadlineTest, NoSequenceTakesTheTimeOfThoseOfAnotherPolicy) {
  const Batch batch(3);
  corpus_->Take(absl::Milliseconds(250));
  auto updates = batch.Start();
  for (SequenceUpdate& update : updates) update.policy = Policy::kLocality;
  updates.front().policy = Policy::kCalibrated;
  for (const SequenceAnswer& answer : Send(updates, SteadyNow() + absl::Seconds(2))) {
    EXPECT_FALSE(answer.tree.empty()) << answer.sequence_id;
  }
}

TEST_P(DrafterDeadlineTest, AStatelessDraftHasOneToo) {
  const Tokens context = {100, 50, 100};
  const auto draft = [&](absl::Time deadline) {
    DraftTree tree;
    EXPECT_TRUE(drafter_
                    ->DraftOnce({.model_id = "model",
                                 .tokenizer_fingerprint = "fp",
                                 .vocab_size = kVocabulary,
                                 .context = context,
                                 .node_budget = 16,
                                 .deadline = deadline},
                                tree)
                    .ok());
    return tree.size();
  };
  EXPECT_GT(draft(corpus_->Begin()), 0);
  EXPECT_EQ(corpus_->calls(), 1);
  corpus_->Hurry();
  EXPECT_EQ(draft(SteadyNow()), 0);
  EXPECT_EQ(corpus_->calls(), 0);
  EXPECT_GT(draft(absl::InfiniteFuture()), 0);
  EXPECT_GT(corpus_->calls(), 1);
}

INSTANTIATE_TEST_SUITE_P(Policies, DrafterDeadlineTest,
                         ::testing::Values(Policy::kCalibrated, Policy::kLocality),
                         [](const auto& info) {
                           return info.param == Policy::kCalibrated ? "Calibrated" : "Locality";
                         });

}  // namespace
}  // namespace strata::draft
