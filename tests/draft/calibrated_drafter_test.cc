// The calibrated policy through the whole drafter: what it learns, keeps, and keeps apart.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "services/draft/hierarchy/hierarchy_drafter.h"
#include "tests/draft/reference_tier.h"
#include "tests/draft/test_util.h"

namespace strata::draft {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kVocabulary = 100;

std::shared_ptr<ModelStore> MakeStore(const std::string& dir = "") {
  std::vector<std::string> warnings;
  auto store = ModelStore::Open({.dir = dir}, &warnings);
  EXPECT_TRUE(store.ok()) << store.status();
  EXPECT_TRUE(warnings.empty());
  return *std::move(store);
}

std::unique_ptr<Drafter> MakeDrafter(DrafterOptions options) {
  auto drafter = NewDrafter(std::move(options));
  EXPECT_TRUE(drafter.ok()) << drafter.status();
  return drafter.ok() ? *std::move(drafter) : nullptr;
}

uint64_t Open(Drafter& drafter) {
  uint64_t session = 0;
  EXPECT_TRUE(drafter.OpenSession("verifier", "model", "fp", kVocabulary, &session).ok());
  return session;
}

SequenceAnswer Send(Drafter& drafter, uint64_t session, const SequenceUpdate& update) {
  std::vector<SequenceAnswer> answers;
  drafter.Draft(session, {&update, 1}, absl::InfiniteFuture(), answers);
  drafter.Learn(session);
  return answers.at(0);
}

// A corpus that always offers two tokens, 10 and 20, after anything: 20 twice as often.
std::shared_ptr<ReferenceTier> TwoWays() {
  auto corpus = std::make_shared<ReferenceTier>(TierKind::kCorpus);
  for (TokenId token = 0; token < kVocabulary; ++token) {
    corpus->Add({token}, 10, 10);
    corpus->Add({token}, 20, 20);
  }
  return corpus;
}

// Plays `rounds` answers of the tenant in which 10 always comes, whatever the corpus prefers.
void PlayTens(Drafter& drafter, const std::string& tenant, int rounds) {
  const uint64_t session = Open(drafter);
  for (int round = 0; round < rounds; ++round) {
    const auto id = static_cast<uint64_t>(round);
    const Tokens prompt = {static_cast<TokenId>(30 + round % 60)};
    Send(drafter, session,
         {.sequence_id = id,
          .tokens = prompt,
          .prompt_length = 1,
          .node_budget = 2,
          .tenant = tenant});
    const Tokens ten = {10};
    Send(drafter, session,
         {.sequence_id = id, .position = 1, .tokens = ten, .node_budget = 2, .tenant = tenant});
    Send(drafter, session, {.sequence_id = id, .position = 2, .close = true});
  }
  drafter.CloseSession(session);
}

// Confidence of 10 after a token that no answer held.
float ConfidenceOfTen(Drafter& drafter, const std::string& tenant) {
  DraftTree tree;
  const Tokens context = {99};
  EXPECT_TRUE(drafter
                  .DraftOnce({.model_id = "model",
                              .tokenizer_fingerprint = "fp",
                              .vocab_size = kVocabulary,
                              .tenant = tenant,
                              .context = context,
                              .node_budget = 2,
                              .max_depth = 1,
                              .policy = Policy::kCalibrated},
                             tree)
                  .ok());
  const int node = tree.FindChild(-1, 10);
  EXPECT_GE(node, 0);
  return node < 0 ? -1.0f : tree.confidences[node];
}

TEST(CalibratedDrafterTest, IsTheDefault) {
  const auto drafter = MakeDrafter({});
  const uint64_t session = Open(*drafter);
  const Tokens prompt = {1, 2, 3, 4, 5, 1, 2};
  const SequenceAnswer by_default =
      Send(*drafter, session, {.sequence_id = 1, .tokens = prompt, .node_budget = 8});
  const SequenceAnswer calibrated =
      Send(*drafter, session,
           {.sequence_id = 2, .tokens = prompt, .node_budget = 8, .policy = Policy::kCalibrated});
  EXPECT_EQ(by_default.tree.tokens, calibrated.tree.tokens);
  EXPECT_EQ(by_default.tree.confidences, calibrated.tree.confidences);
  EXPECT_EQ(by_default.tree.tokens.at(0), 3);
}

TEST(CalibratedDrafterTest, TreesDoNotDependOnHowManyThreadsDraft) {
  // Of 12 sequences that go on differently, and that are enough nodes for several threads.
  std::vector<Tokens> prompts;
  for (TokenId i = 0; i < 12; ++i) {
    Tokens& prompt = prompts.emplace_back();
    for (TokenId k = 0; k < 60; ++k) prompt.push_back((k * (i + 3) + k % (i + 2)) % kVocabulary);
  }
  const auto trees_of = [&](int threads) {
    const auto drafter = MakeDrafter({.corpus = TwoWays(),
                                      .tokenizer_fingerprint = "fp",
                                      .model_store = MakeStore(),
                                      .policy = {.draft_threads = threads}});
    std::vector<SequenceUpdate> updates;
    for (size_t i = 0; i < prompts.size(); ++i) {
      updates.push_back(
          {.sequence_id = i, .tokens = prompts[i], .prompt_length = 60, .node_budget = 40});
    }
    std::vector<SequenceAnswer> answers;
    drafter->Draft(Open(*drafter), updates, absl::InfiniteFuture(), answers);
    return answers;
  };
  const std::vector<SequenceAnswer> alone = trees_of(1);
  EXPECT_NE(alone[0].tree.tokens, alone[1].tree.tokens);
  for (const int threads : {2, 3, 5}) {
    const std::vector<SequenceAnswer> together = trees_of(threads);
    ASSERT_EQ(together.size(), alone.size());
    for (size_t i = 0; i < alone.size(); ++i) {
      EXPECT_EQ(together[i].tree.tokens, alone[i].tree.tokens) << threads << " threads, " << i;
      EXPECT_EQ(together[i].tree.parents, alone[i].tree.parents);
      EXPECT_EQ(together[i].tree.confidences, alone[i].tree.confidences);
    }
  }
}

TEST(CalibratedDrafterTest, ThreadsMustBeSomeAndNotTooMany) {
  for (const int threads : {-1, 0, kMaxDraftThreads + 1}) {
    EXPECT_THAT(NewDrafter({.policy = {.draft_threads = threads}}).status().message(),
                HasSubstr("draft_threads"));
  }
}

TEST(CalibratedDrafterTest, LearnsFromWhatWasAcceptedForEachTenantAlone) {
  const auto drafter =
      MakeDrafter({.corpus = TwoWays(), .tokenizer_fingerprint = "fp", .model_store = MakeStore()});
  const float before = ConfidenceOfTen(*drafter, "alice");
  PlayTens(*drafter, "alice", 200);
  EXPECT_GT(ConfidenceOfTen(*drafter, "alice"), before + 0.2f);
  EXPECT_EQ(ConfidenceOfTen(*drafter, "bob"), before);
}

TEST(CalibratedDrafterTest, WhatWasLearnedSurvivesARestart) {
  const TemporaryFolder folder;
  float learned = 0;
  {
    const auto store = MakeStore(folder.path());
    const auto drafter =
        MakeDrafter({.corpus = TwoWays(), .tokenizer_fingerprint = "fp", .model_store = store});
    PlayTens(*drafter, "alice", 300);
    learned = ConfidenceOfTen(*drafter, "alice");
    ASSERT_TRUE(store->Save().ok());
  }
  const auto drafter = MakeDrafter({.corpus = TwoWays(),
                                    .tokenizer_fingerprint = "fp",
                                    .model_store = MakeStore(folder.path())});
  EXPECT_EQ(ConfidenceOfTen(*drafter, "alice"), learned);
}

// Also little of it: that is what a small tenant has.
TEST(CalibratedDrafterTest, WhatIsSavedIsAllThatWasLearned) {
  const auto store = MakeStore();
  const auto drafter =
      MakeDrafter({.corpus = TwoWays(), .tokenizer_fingerprint = "fp", .model_store = store});
  const auto later = [&store] {
    return ConfidenceOfTen(
        *MakeDrafter({.corpus = TwoWays(), .tokenizer_fingerprint = "fp", .model_store = store}),
        "alice");
  };
  for (const int more : {5, 1, 30}) {
    PlayTens(*drafter, "alice", more);
    const float learned = ConfidenceOfTen(*drafter, "alice");
    ASSERT_NE(learned, later()) << "nothing was learned";
    drafter->SaveCalibrations();
    EXPECT_EQ(learned, later());
  }
}

TEST(CalibratedDrafterTest, ManyModelsAndTenantsShareABoundedNumberOfCalibrations) {
  const auto store = MakeStore();
  DrafterOptions options = {
      .corpus = TwoWays(), .tokenizer_fingerprint = "fp", .model_store = store};
  options.policy.max_calibrations = 2;
  const auto drafter = MakeDrafter(std::move(options));
  PlayTens(*drafter, "alice", 200);
  const float learned = ConfidenceOfTen(*drafter, "alice");
  for (const char* other : {"b", "c", "d", "e"}) PlayTens(*drafter, other, 1);
  // Dropped from memory, and back from the store.
  EXPECT_EQ(ConfidenceOfTen(*drafter, "alice"), learned);
  DrafterOptions none;
  none.policy.max_calibrations = 0;
  EXPECT_TRUE(absl::IsInvalidArgument(NewDrafter(std::move(none)).status()));
}

TEST(CalibratedDrafterTest, ASequenceThatComesTwiceInABatchIsDraftedForInOrder) {
  const auto drafter = MakeDrafter({});
  const uint64_t session = Open(*drafter);
  const Tokens prompt = {1, 2, 3, 1}, more = {2}, other = {7, 8, 7};
  const std::vector<SequenceUpdate> batch = {
      {.sequence_id = 1, .tokens = prompt, .node_budget = 3},
      {.sequence_id = 2, .tokens = other, .node_budget = 3},
      {.sequence_id = 1, .position = 4, .tokens = more, .node_budget = 3}};
  std::vector<SequenceAnswer> answers;
  drafter->Draft(session, batch, absl::InfiniteFuture(), answers);
  ASSERT_EQ(answers.size(), 3u);
  for (const SequenceAnswer& answer : answers) EXPECT_EQ(answer.status, SequenceStatus::kOk);
  EXPECT_EQ(answers[0].tree.tokens.at(0), 2);
  EXPECT_EQ(answers[1].tree.tokens.at(0), 8);
  EXPECT_EQ(answers[2].tree.tokens.at(0), 3);
}

TEST(CalibratedDrafterTest, RankingsBecomeCandidatesOfTheSameTenant) {
  const auto drafter = MakeDrafter({.model_store = MakeStore()});
  const uint64_t session = Open(*drafter);
  const auto start = [&](uint64_t id, const Tokens& prompt, const std::string& tenant) {
    return Send(*drafter, session,
                {.sequence_id = id,
                 .tokens = prompt,
                 .prompt_length = 2,
                 .node_budget = 4,
                 .tenant = tenant});
  };
  EXPECT_TRUE(start(1, {50, 51}, "alice").tree.empty());
  RowRanking row;
  row.previous_token = 60;
  row.token = 61;
  row.size = 2;
  row.next_tokens = {62, 63};
  const Tokens next = {52};
  const SequenceAnswer answer = Send(
      *drafter, session, {.sequence_id = 1, .position = 2, .tokens = next, .rankings = {&row, 1}});
  EXPECT_EQ(answer.status, SequenceStatus::kOk);
  const SequenceAnswer ranked = start(2, {60, 61}, "alice");
  ASSERT_EQ(ranked.tree.tokens, (Tokens{62, 63}));
  EXPECT_EQ(ranked.tree.tiers[0], TierKind::kRecycled);
  EXPECT_GT(ranked.tree.confidences[0], ranked.tree.confidences[1]);
  EXPECT_TRUE(start(3, {60, 61}, "bob").tree.empty());
}

TEST(CalibratedDrafterTest, RankingsOfAPromptComeWithIt) {
  const auto drafter = MakeDrafter({.model_store = MakeStore()});
  const uint64_t session = Open(*drafter);
  RowRanking row;
  row.previous_token = 60;
  row.token = 61;
  row.size = 1;
  row.next_tokens = {62};
  const Tokens prompt = {60, 61, 70};
  Send(*drafter, session,
       {.sequence_id = 1, .tokens = prompt, .prompt_length = 3, .rankings = {&row, 1}});
  const Tokens other = {60, 61};
  EXPECT_EQ(Send(*drafter, session,
                 {.sequence_id = 2, .tokens = other, .prompt_length = 2, .node_budget = 4})
                .tree.tokens,
            (Tokens{62}));
}

TEST(CalibratedDrafterTest, RankingsAreChecked) {
  const auto drafter = MakeDrafter({.model_store = MakeStore()});
  const uint64_t session = Open(*drafter);
  const Tokens prompt = {1};
  const auto send = [&](std::vector<RowRanking> rows) {
    return Send(*drafter, session, {.tokens = prompt, .rankings = rows});
  };
  RowRanking row;
  row.token = 5;
  row.size = 1;
  EXPECT_EQ(send({row}).status, SequenceStatus::kOk);
  row.token = kVocabulary;
  EXPECT_THAT(send({row}).message, HasSubstr("rankings[0].token is 100"));
  row.token = 5;
  row.previous_token = -2;
  EXPECT_THAT(send({row}).message, HasSubstr("previous_token"));
  row.previous_token = -1;
  row.next_tokens[0] = 4000;
  EXPECT_THAT(send({row}).message, HasSubstr("next_tokens[0] is 4000"));
  row.size = 9;
  EXPECT_THAT(send({row}).message, HasSubstr("9 next_tokens, at most 8"));
  row.size = 0;
  EXPECT_THAT(send(std::vector<RowRanking>(1025, row)).message, HasSubstr("at most 1024"));
}

}  // namespace
}  // namespace strata::draft
