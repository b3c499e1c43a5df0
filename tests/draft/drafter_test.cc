#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "services/draft/hierarchy/hierarchy_drafter.h"
#include "tests/draft/reference_tier.h"
#include "tests/draft/test_util.h"

namespace strata::draft {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kVocabulary = 1000;

// With the locality policy, whose trees can be told by hand; CalibratedDrafterTest has the other.
std::unique_ptr<Drafter> MakeDrafter(DrafterOptions options = {}) {
  options.policy.policy = Policy::kLocality;
  auto drafter = NewDrafter(std::move(options));
  EXPECT_TRUE(drafter.ok()) << drafter.status();
  return drafter.ok() ? *std::move(drafter) : nullptr;
}

uint64_t Open(Drafter& drafter, const std::string& model = "model") {
  uint64_t session = 0;
  const absl::Status status = drafter.OpenSession("verifier", model, "fp", kVocabulary, &session);
  EXPECT_TRUE(status.ok()) << status;
  return session;
}

SequenceAnswer Send(Drafter& drafter, uint64_t session, const SequenceUpdate& update,
                    absl::Time deadline = absl::InfiniteFuture()) {
  std::vector<SequenceAnswer> answers;
  drafter.Draft(session, {&update, 1}, deadline, answers);
  drafter.Learn(session);
  EXPECT_EQ(answers.size(), 1u);
  return answers.at(0);
}

std::shared_ptr<ModelStore> MakeStore() {
  std::vector<std::string> warnings;
  auto store = ModelStore::Open({}, &warnings);
  EXPECT_TRUE(store.ok());
  return *std::move(store);
}

void ExpectSameTree(const DraftTree& got, const DraftTree& want) {
  EXPECT_EQ(got.tokens, want.tokens);
  EXPECT_EQ(got.parents, want.parents);
  EXPECT_EQ(got.confidences, want.confidences);
  EXPECT_EQ(got.tiers, want.tiers);
}

TEST(DrafterTest, DraftsFromTheContext) {
  const auto drafter = MakeDrafter();
  const uint64_t session = Open(*drafter);
  const Tokens prompt = {1, 2, 3, 4, 5, 6, 1, 2};
  const SequenceAnswer answer =
      Send(*drafter, session,
           {.sequence_id = 7, .epoch = 3, .tokens = prompt, .prompt_length = 8, .node_budget = 4});
  EXPECT_EQ(answer.status, SequenceStatus::kOk) << answer.message;
  EXPECT_EQ(answer.sequence_id, 7u);
  EXPECT_EQ(answer.epoch, 3u);
  EXPECT_EQ(answer.position, 8u);
  EXPECT_EQ(answer.tree.tokens, (Tokens{3, 4, 5, 6}));
  EXPECT_EQ(answer.tree.parents, (std::vector<int32_t>{-1, 0, 1, 2}));
}

// The whole life of many sequences, interleaved at random over two sessions, must draft what a
// drafter that is told one whole context drafts.
TEST(DrafterTest, InterleavedSequencesDraftAsFreshOnes) {
  std::mt19937 random(10);
  const auto drafter = MakeDrafter();
  const auto fresh = MakeDrafter();
  const std::vector<uint64_t> sessions = {Open(*drafter), Open(*drafter)};
  struct Live {
    Tokens tokens, predicted;
    uint32_t epoch = 0;
    uint32_t prompt_length = 0;
  };
  std::map<std::pair<uint64_t, uint64_t>, Live> live;
  for (int step = 0; step < 3000; ++step) {
    const uint64_t session = sessions[random() % 2];
    const uint64_t id = random() % 6;
    const Tokens more = RandomTokens(random, 1 + random() % 6, 5);
    auto it = live.find({session, id});
    SequenceUpdate update = {.sequence_id = id,
                             .node_budget = static_cast<uint32_t>(random() % 40),
                             .max_depth = static_cast<uint32_t>(random() % 6)};
    if (it == live.end() || random() % 30 == 0) {
      Live& start = live[{session, id}];
      start.epoch += 1;
      start.tokens = more;
      start.prompt_length = static_cast<uint32_t>(random() % (more.size() + 1));
      start.predicted = random() % 2 == 0 ? Tokens() : RandomTokens(random, 20, 5);
      it = live.find({session, id});
      update.prompt_length = start.prompt_length;
      update.predicted_tokens = it->second.predicted;
    } else {
      update.position = static_cast<uint32_t>(it->second.tokens.size());
      it->second.tokens.insert(it->second.tokens.end(), more.begin(), more.end());
    }
    update.epoch = it->second.epoch;
    update.tokens = more;
    update.close = random() % 25 == 0;
    const SequenceAnswer answer = Send(*drafter, session, update);
    ASSERT_EQ(answer.status, SequenceStatus::kOk) << answer.message;
    EXPECT_EQ(answer.position, it->second.tokens.size());
    if (update.close) {
      EXPECT_TRUE(answer.tree.empty());
      live.erase(it);
    } else {
      const uint64_t other = Open(*fresh);
      ExpectSameTree(answer.tree, Send(*fresh, other,
                                       {.tokens = it->second.tokens,
                                        .prompt_length = it->second.prompt_length,
                                        .node_budget = update.node_budget,
                                        .max_depth = update.max_depth,
                                        .predicted_tokens = it->second.predicted})
                                      .tree);
      fresh->CloseSession(other);
    }
    EXPECT_EQ(drafter->Stats().live_sequences, live.size());
  }
  for (const uint64_t session : sessions) drafter->CloseSession(session);
  EXPECT_EQ(drafter->Stats().live_sequences, 0u);
}

TEST(DrafterTest, WhatIsNotHeldIsUnknown) {
  const auto drafter = MakeDrafter();
  const uint64_t session = Open(*drafter), other = Open(*drafter);
  const Tokens prompt = {1, 2, 3}, more = {4};
  const auto start = [&] {
    return Send(*drafter, session, {.sequence_id = 1, .epoch = 1, .tokens = prompt}).status;
  };
  const auto status = [&](uint64_t in, uint64_t id, uint32_t epoch, uint32_t position) {
    return Send(*drafter, in,
                {.sequence_id = id, .epoch = epoch, .position = position, .tokens = more})
        .status;
  };
  ASSERT_EQ(start(), SequenceStatus::kOk);
  EXPECT_EQ(status(session, 2, 1, 3), SequenceStatus::kUnknown);
  EXPECT_EQ(status(other, 1, 1, 3), SequenceStatus::kUnknown);
  EXPECT_EQ(status(session, 1, 1, 2), SequenceStatus::kUnknown);
  EXPECT_EQ(status(session, 1, 1, 4), SequenceStatus::kUnknown);
  EXPECT_EQ(status(session, 1, 1, 3), SequenceStatus::kOk);
  EXPECT_EQ(status(session, 1, 1, 3), SequenceStatus::kUnknown) << "the same message twice";
  EXPECT_EQ(status(session, 1, 2, 4), SequenceStatus::kUnknown) << "another epoch";
  EXPECT_EQ(status(session, 1, 1, 4), SequenceStatus::kUnknown) << "dropped with its epoch";
  EXPECT_EQ(start(), SequenceStatus::kOk);
  EXPECT_EQ(
      Send(*drafter, session, {.sequence_id = 1, .epoch = 1, .position = 3, .close = true}).status,
      SequenceStatus::kOk);
  EXPECT_EQ(status(session, 1, 1, 3), SequenceStatus::kUnknown) << "closed";
  EXPECT_EQ(drafter->Stats().live_sequences, 0u);
}

TEST(DrafterTest, MalformedUpdatesAreInvalidAndChangeNothing) {
  const auto drafter = MakeDrafter({.limits = {.max_predicted_tokens = 3}});
  const uint64_t session = Open(*drafter);
  const Tokens good = {1, 2, 1}, high = {1, 1000}, negative = {-1}, four = {1, 2, 3, 4};
  const std::vector<int32_t> accepted = {5};
  ASSERT_EQ(Send(*drafter, session, {.tokens = good, .node_budget = 8}).status,
            SequenceStatus::kOk);
  const auto expect_invalid = [&](const SequenceUpdate& update, const std::string& what) {
    const SequenceAnswer answer = Send(*drafter, session, update);
    EXPECT_EQ(answer.status, SequenceStatus::kInvalid) << what;
    EXPECT_THAT(answer.message, HasSubstr(what));
    EXPECT_TRUE(answer.tree.empty());
  };
  expect_invalid({.position = 3, .tokens = high}, "tokens[1] is 1000, must be below vocab_size");
  expect_invalid({.position = 3, .tokens = negative}, "tokens[0] is 4294967295");
  expect_invalid({.position = 3, .predicted_tokens = good}, "position 0 only");
  expect_invalid({.position = 3, .has_feedback = true, .accepted_nodes = accepted},
                 "accepted_nodes are not a path");
  expect_invalid({.position = 3, .policy = static_cast<Policy>(9)},
                 "policy is 9, which is not a policy");
  expect_invalid({}, "at least one token");
  expect_invalid({.tokens = good, .prompt_length = 4}, "prompt_length is 4");
  expect_invalid({.tokens = good, .predicted_tokens = four}, "4 predicted_tokens, at most 3");
  expect_invalid({.tokens = good, .predicted_tokens = high}, "predicted_tokens[1] is 1000");
  expect_invalid({.tokens = good, .tenant = std::string(129, 't')}, "tenant has 129 bytes");
  EXPECT_EQ(Send(*drafter, session, {.position = 3, .tokens = good}).status, SequenceStatus::kOk);
  EXPECT_EQ(Send(*drafter, session + 99, {.tokens = good}).status, SequenceStatus::kInvalid);
}

TEST(DrafterTest, AnInvalidUpdateLeavesTheOthersOfItsBatchAlone) {
  const auto drafter = MakeDrafter({.limits = {.max_batch = 3}});
  const uint64_t session = Open(*drafter);
  const Tokens good = {1, 2, 1}, high = {1000};
  const std::vector<SequenceUpdate> batch = {{.sequence_id = 1, .tokens = good, .node_budget = 4},
                                             {.sequence_id = 2, .tokens = high, .node_budget = 4},
                                             {.sequence_id = 3, .tokens = good, .node_budget = 4}};
  std::vector<SequenceAnswer> answers(7);
  drafter->Draft(session, batch, absl::InfiniteFuture(), answers);
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_EQ(answers[0].tree.tokens, (Tokens{2, 1, 2, 1}));
  EXPECT_EQ(answers[1].status, SequenceStatus::kInvalid);
  EXPECT_EQ(answers[2].tree.tokens, (Tokens{2, 1, 2, 1}));
  const std::vector<SequenceUpdate> large(4, batch[0]);
  drafter->Draft(session, large, absl::InfiniteFuture(), answers);
  ASSERT_EQ(answers.size(), 4u);
  EXPECT_THAT(answers[3].message, HasSubstr("at most 3"));
}

TEST(DrafterTest, FeedbackIsAPathOfTheLastTreeAndIsCounted) {
  const auto drafter = MakeDrafter();
  const uint64_t session = Open(*drafter);
  const Tokens prompt = {1, 2, 3, 1, 4, 5, 1}, more = {4};
  const SequenceAnswer first =
      Send(*drafter, session, {.tokens = prompt, .node_budget = 8, .max_depth = 2});
  ASSERT_EQ(first.tree.tokens, (Tokens{4, 5, 2, 3}));
  const std::vector<int32_t> across = {0, 3}, inner = {1}, path = {0, 1};
  for (const auto& wrong : {across, inner}) {
    EXPECT_EQ(
        Send(*drafter, session, {.position = 7, .has_feedback = true, .accepted_nodes = wrong})
            .status,
        SequenceStatus::kInvalid);
  }
  EXPECT_EQ(Send(*drafter, session,
                 {.position = 7, .tokens = more, .has_feedback = true, .accepted_nodes = path})
                .status,
            SequenceStatus::kOk);
  const auto context = static_cast<size_t>(TierKind::kContext);
  const DrafterStats stats = drafter->Stats();
  EXPECT_EQ(stats.judged_nodes[context], 4u);
  EXPECT_EQ(stats.accepted_nodes[context], 2u);
  EXPECT_EQ(stats.drafted_nodes[context], 4u);
  EXPECT_EQ(stats.answers[static_cast<size_t>(SequenceStatus::kOk)], 2u);
  EXPECT_EQ(stats.answers[static_cast<size_t>(SequenceStatus::kInvalid)], 2u);
  EXPECT_EQ(stats.live_tokens, 8u);
}

TEST(DrafterTest, PastTheDeadlineUpdatesAreAppliedAndTreesEmpty) {
  const auto drafter = MakeDrafter();
  const uint64_t session = Open(*drafter);
  const Tokens prompt = {1, 2, 1};
  const SequenceAnswer late =
      Send(*drafter, session, {.tokens = prompt, .node_budget = 8}, absl::InfinitePast());
  EXPECT_EQ(late.status, SequenceStatus::kOk);
  EXPECT_TRUE(late.tree.empty());
  const SequenceAnswer next = Send(*drafter, session, {.position = 3, .node_budget = 8});
  EXPECT_EQ(next.tree.tokens, (Tokens{2, 1, 2, 1}));
}

TEST(DrafterTest, LimitsAreExhaustedWithASentence) {
  const auto drafter = MakeDrafter(
      {.limits = {.max_sequences = 2, .max_live_tokens = 10, .max_sequence_tokens = 6}});
  const uint64_t session = Open(*drafter);
  const Tokens three = {1, 2, 3}, seven(7, 1), four(4, 1), two(2, 1);
  const auto start = [&](uint64_t id, const Tokens& tokens) {
    return Send(*drafter, session, {.sequence_id = id, .tokens = tokens});
  };
  EXPECT_THAT(start(1, seven).message, HasSubstr("would have 7 tokens, at most 6"));
  EXPECT_EQ(start(1, three).status, SequenceStatus::kOk);
  EXPECT_EQ(start(2, three).status, SequenceStatus::kOk);
  const SequenceAnswer third = start(3, three);
  EXPECT_EQ(third.status, SequenceStatus::kExhausted);
  EXPECT_THAT(third.message, HasSubstr("at most 2 of 10"));
  const auto more = [&](uint64_t id, uint32_t position, const Tokens& tokens) {
    return Send(*drafter, session, {.sequence_id = id, .position = position, .tokens = tokens})
        .status;
  };
  EXPECT_EQ(more(1, 3, four), SequenceStatus::kExhausted) << "over a sequence's limit";
  EXPECT_EQ(more(1, 3, two), SequenceStatus::kOk);
  EXPECT_EQ(more(2, 3, three), SequenceStatus::kExhausted) << "over the limit of all";
  EXPECT_EQ(more(2, 3, two), SequenceStatus::kOk) << "unchanged by the refusal";
  // Room comes back with a close, to the last token.
  Send(*drafter, session, {.sequence_id = 1, .position = 5, .close = true});
  EXPECT_EQ(start(3, Tokens(5, 1)).status, SequenceStatus::kOk);
}

TEST(DrafterTest, IdleSequencesGiveWay) {
  const auto drafter =
      MakeDrafter({.limits = {.max_sequences = 1, .idle_before_eviction = absl::Milliseconds(20)}});
  const uint64_t session = Open(*drafter);
  const Tokens prompt = {1, 2, 3};
  const auto start = [&](uint64_t id) {
    return Send(*drafter, session, {.sequence_id = id, .tokens = prompt}).status;
  };
  ASSERT_EQ(start(1), SequenceStatus::kOk);
  EXPECT_EQ(start(2), SequenceStatus::kExhausted);
  absl::SleepFor(absl::Milliseconds(60));
  EXPECT_EQ(start(2), SequenceStatus::kOk);
  EXPECT_EQ(Send(*drafter, session, {.sequence_id = 1, .position = 3}).status,
            SequenceStatus::kUnknown);
}

TEST(DrafterTest, SessionsAreCheckedAndCounted) {
  const auto corpus = std::make_shared<ReferenceTier>(TierKind::kCorpus);
  const auto drafter = MakeDrafter({.corpus = corpus,
                                    .corpus_info =
                                        [] {
                                          return CorpusInfo{"snap", 5};
                                        },
                                    .tokenizer_fingerprint = "fp",
                                    .limits = {.max_sessions = 1}});
  uint64_t session = 0;
  const auto open = [&](const std::string& verifier, const std::string& model,
                        const std::string& fingerprint, int64_t vocabulary) {
    return drafter->OpenSession(verifier, model, fingerprint, vocabulary, &session);
  };
  EXPECT_TRUE(absl::IsFailedPrecondition(open("v", "m", "other", 10)));
  EXPECT_TRUE(absl::IsInvalidArgument(open("", "m", "fp", 10)));
  EXPECT_TRUE(absl::IsInvalidArgument(open(std::string(129, 'v'), "m", "fp", 10)));
  EXPECT_TRUE(absl::IsInvalidArgument(open("v", "", "fp", 10)));
  EXPECT_TRUE(absl::IsInvalidArgument(open("v", std::string(257, 'm'), "fp", 10)));
  EXPECT_TRUE(absl::IsInvalidArgument(open("v", "m", "", 10)));
  EXPECT_TRUE(absl::IsInvalidArgument(open("v", "m", "fp", 0)));
  EXPECT_TRUE(absl::IsInvalidArgument(open("v", "m", "fp", int64_t{1} << 31)));
  ASSERT_TRUE(open("v", "m", "fp", 10).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(open("v", "m", "fp", 10)));
  drafter->CloseSession(session);
  EXPECT_TRUE(open("v", "m", "fp", 10).ok());
  EXPECT_EQ(drafter->Stats().snapshot, "snap");
  EXPECT_EQ(drafter->Stats().corpus_tokens, 5u);
}

TEST(DrafterTest, OutputIsLearnedByItsTenantAndPromptsAreNot) {
  const auto drafter = MakeDrafter({.model_store = MakeStore()});
  const uint64_t session = Open(*drafter);
  // Prompt 100..119, then output 200..349.
  Tokens tokens;
  for (TokenId t = 100; t < 120; ++t) tokens.push_back(t);
  for (TokenId t = 200; t < 350; ++t) tokens.push_back(t);
  Send(*drafter, session, {.tokens = tokens, .prompt_length = 20, .tenant = "alice"});
  const auto ask = [&](TokenId last, const std::string& tenant) {
    DraftTree tree;
    const Tokens context = {last};
    EXPECT_TRUE(drafter
                    ->DraftOnce({.model_id = "model",
                                 .tokenizer_fingerprint = "fp",
                                 .vocab_size = kVocabulary,
                                 .tenant = tenant,
                                 .context = context,
                                 .node_budget = 4},
                                tree)
                    .ok());
    return tree.tokens;
  };
  // While it grows: what lies far enough back.
  EXPECT_EQ(ask(210, "alice"), (Tokens{211, 212, 213, 214}));
  EXPECT_TRUE(ask(347, "alice").empty());
  Send(*drafter, session, {.position = 170, .close = true});
  EXPECT_EQ(ask(347, "alice"), (Tokens{348, 349}));
  // Every position is taught once, at the seams of segments too.
  for (TokenId t = 200; t < 345; ++t) {
    EXPECT_EQ(ask(t, "alice"), (Tokens{t + 1, t + 2, t + 3, t + 4}));
  }
  // The first output token follows the prompt; inside the prompt nothing is taught.
  EXPECT_EQ(ask(119, "alice"), (Tokens{200, 201, 202, 203}));
  for (TokenId t = 100; t < 119; ++t) EXPECT_TRUE(ask(t, "alice").empty());
  EXPECT_TRUE(ask(210, "bob").empty());
  EXPECT_TRUE(ask(210, "").empty());
}

TEST(DrafterTest, WhatIsLearnedWaitsForLearnOrForTheNextMessage) {
  Tokens tokens(300);
  std::iota(tokens.begin(), tokens.end(), 100);
  for (const bool told : {true, false}) {
    const auto drafter = MakeDrafter({.model_store = MakeStore()});
    const uint64_t session = Open(*drafter);
    const auto known = [&] {
      DraftTree tree;
      const Tokens context = {110};
      EXPECT_TRUE(drafter
                      ->DraftOnce({.model_id = "model",
                                   .tokenizer_fingerprint = "fp",
                                   .vocab_size = kVocabulary,
                                   .context = context,
                                   .node_budget = 4},
                                  tree)
                      .ok());
      return !tree.empty();
    };
    const SequenceUpdate update = {.sequence_id = 1, .tokens = tokens, .prompt_length = 1};
    std::vector<SequenceAnswer> answers;
    drafter->Draft(session, {&update, 1}, absl::InfiniteFuture(), answers);
    EXPECT_FALSE(known());
    if (told) {
      drafter->Learn(session);
    } else {
      const SequenceUpdate other = {.sequence_id = 2, .tokens = tokens, .prompt_length = 300};
      drafter->Draft(session, {&other, 1}, absl::InfiniteFuture(), answers);
    }
    EXPECT_TRUE(known());
    drafter->Learn(session);
    drafter->Learn(session + 1);  // there is none
  }
}

TEST(DrafterTest, ClosingASessionTeachesButARewindDoesNot) {
  const auto drafter = MakeDrafter({.model_store = MakeStore()});
  const uint64_t session = Open(*drafter);
  const Tokens rewound = {1, 2, 3}, kept = {1, 4, 5};
  Send(*drafter, session, {.epoch = 1, .tokens = rewound, .prompt_length = 1});
  Send(*drafter, session, {.epoch = 2, .tokens = kept, .prompt_length = 1});
  drafter->CloseSession(session);
  DraftTree tree;
  const Tokens context = {1};
  ASSERT_TRUE(drafter
                  ->DraftOnce({.model_id = "model",
                               .tokenizer_fingerprint = "fp",
                               .vocab_size = kVocabulary,
                               .context = context,
                               .node_budget = 10,
                               .policy = Policy::kLocality},
                              tree)
                  .ok());
  EXPECT_EQ(tree.tokens, (Tokens{4, 5}));
  EXPECT_EQ(tree.tiers[0], TierKind::kModel);
}

TEST(DrafterTest, TiersComeInFallingLocality) {
  const auto corpus = std::make_shared<ReferenceTier>(TierKind::kCorpus);
  corpus->Teach({1, 2000});
  corpus->Teach({1, 40, 41});
  const auto store = MakeStore();
  const Tokens said = {1, 30, 31};
  store->Learn({"model", "fp", ""}, said, 0, 3);
  const auto drafter =
      MakeDrafter({.corpus = corpus, .tokenizer_fingerprint = "fp", .model_store = store});
  const uint64_t session = Open(*drafter);
  const Tokens prompt = {1, 20, 21, 1}, predicted = {10, 11};
  const SequenceAnswer answer = Send(*drafter, session,
                                     {.tokens = prompt,
                                      .prompt_length = 4,
                                      .node_budget = 28,
                                      .max_depth = 2,
                                      .predicted_tokens = predicted});
  EXPECT_EQ(answer.tree.tokens, (Tokens{10, 11, 20, 21, 30, 31, 40, 41}));
  EXPECT_EQ(answer.tree.tiers,
            (std::vector<TierKind>{TierKind::kPredicted, TierKind::kPredicted, TierKind::kContext,
                                   TierKind::kContext, TierKind::kModel, TierKind::kModel,
                                   TierKind::kCorpus, TierKind::kCorpus}));
}

TEST(DrafterTest, DraftOnceChecksItsArguments) {
  const auto drafter = MakeDrafter({.limits = {.max_sequence_tokens = 4}});
  DraftTree tree;
  const auto once = [&](const Tokens& context, const Tokens& predicted, Policy policy) {
    return drafter->DraftOnce({.model_id = "m",
                               .tokenizer_fingerprint = "fp",
                               .vocab_size = 10,
                               .context = context,
                               .predicted_tokens = predicted,
                               .node_budget = 4,
                               .policy = policy},
                              tree);
  };
  EXPECT_TRUE(once({1}, {2}, Policy::kDefault).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(once({}, {}, Policy::kDefault)));
  EXPECT_TRUE(absl::IsInvalidArgument(once({10}, {}, Policy::kDefault)));
  EXPECT_TRUE(absl::IsInvalidArgument(once({1}, {10}, Policy::kDefault)));
  EXPECT_TRUE(absl::IsInvalidArgument(once({1, 1, 1, 1, 1}, {}, Policy::kDefault)));
  EXPECT_TRUE(absl::IsInvalidArgument(once({1}, {}, static_cast<Policy>(200))));
  EXPECT_EQ(drafter->Stats().live_sequences, 0u);
}

TEST(DrafterTest, DraftOnceCountsAgainstTheLiveTokensWhileItRuns) {
  const auto drafter = MakeDrafter({.limits = {.max_live_tokens = 8}});
  const uint64_t session = Open(*drafter);
  const Tokens live = {1, 2, 3, 4, 5};
  ASSERT_EQ(Send(*drafter, session, {.tokens = live}).status, SequenceStatus::kOk);
  DraftTree tree;
  const auto once = [&](const Tokens& context, const Tokens& predicted) {
    return drafter->DraftOnce({.model_id = "m",
                               .tokenizer_fingerprint = "fp",
                               .vocab_size = 10,
                               .context = context,
                               .predicted_tokens = predicted,
                               .node_budget = 4},
                              tree);
  };
  EXPECT_TRUE(absl::IsResourceExhausted(once({1, 1}, {2, 2})));
  // What a call took is given back.
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(once({1, 1}, {2}).ok());
}

TEST(DrafterTest, BadOptionsAreRefused) {
  const auto corpus = std::make_shared<ReferenceTier>(TierKind::kCorpus);
  EXPECT_TRUE(absl::IsInvalidArgument(NewDrafter({.corpus = corpus}).status()));
  EXPECT_TRUE(
      absl::IsInvalidArgument(NewDrafter({.policy = {.locality = {.max_chains = 0}}}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(NewDrafter({.limits = {.max_sequences = 0}}).status()));
}

}  // namespace
}  // namespace strata::draft
