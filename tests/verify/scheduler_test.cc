#include "services/verify/scheduler/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <functional>
#include <new>
#include <random>
#include <utility>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "tests/verify/fake_engine.h"

namespace strata::verify {
namespace {

class Recorder final : public GenerationSink {
 public:
  void OnChunk(GenerationChunk chunk) override {
    tokens.insert(tokens.end(), chunk.tokens.begin(), chunk.tokens.end());
    text += chunk.text;
    for (const OutputLogprob& l : chunk.logprobs) logprobs.push_back(l.token.logprob);
    if (tokens.size() >= cancel_after) cancel = true;
  }
  void OnFinish(const absl::Status& s, FinishReason r, const GenerationStats& st) override {
    status = s;
    reason = r;
    stats = st;
    if (on_finish) on_finish();
    done.Notify();
  }
  bool cancelled() const override { return cancel; }

  // Read after `done`.
  std::vector<TokenId> tokens;
  std::string text;
  std::vector<float> logprobs;
  absl::Status status;
  FinishReason reason = FinishReason::kNone;
  GenerationStats stats;
  absl::Notification done;
  // On the scheduler's thread.
  std::function<void()> on_finish;
  size_t cancel_after = SIZE_MAX;
  std::atomic<bool> cancel = false;
};

using TreeMaker = std::function<DraftReply(const DraftQuery&)>;

class ScriptedSource final : public DraftSource {
 public:
  explicit ScriptedSource(TreeMaker make) : make_(std::move(make)) {}
  const char* mode() const override { return "scripted"; }
  bool available() const override { return true; }
  void Ask(std::span<const DraftQuery> queries) override {
    queries_.assign(queries.begin(), queries.end());
  }
  // Late, so that what the queries borrow is needed until then.
  void Take(std::vector<DraftReply>& replies) override {
    replies.clear();
    for (const DraftQuery& query : queries_) replies.push_back(make_(query));
    queries_.clear();
  }
  void Close(uint64_t, std::span<const TokenId>) override {}

 private:
  const TreeMaker make_;
  std::vector<DraftQuery> queries_;
};

std::unique_ptr<DraftSource> Scripted(TreeMaker make) {
  return std::make_unique<ScriptedSource>(std::move(make));
}

// A tree that holds the model's greedy continuation among random branches.
DraftReply Oracle(const DraftQuery& query) {
  DraftReply reply;
  std::vector<int32_t> path(query.tokens.begin(), query.tokens.end());
  std::vector<float> logits(kFakeVocab);
  int32_t parent = -1;
  std::mt19937 random(static_cast<unsigned>(path.size()));
  while (reply.tree.size() < static_cast<int>(query.node_budget)) {
    FakeLogits(path, logits);
    const TokenId best =
        static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    const TokenId other = static_cast<TokenId>(random() % kFakeVocab);
    if (other != best && reply.tree.size() + 1 < static_cast<int>(query.node_budget)) {
      reply.tree.Add(other, parent, 0.5f, TierKind::kCorpus);
    }
    parent = reply.tree.Add(best, parent, 0.5f, TierKind::kContext);
    path.push_back(best);
  }
  return reply;
}

DraftReply RandomTree(const DraftQuery& query) {
  DraftReply reply;
  std::mt19937 random(static_cast<unsigned>(query.tokens.size() * 31 + query.sequence_id));
  for (uint32_t i = 0; i < query.node_budget; ++i) {
    const int32_t parent = static_cast<int32_t>(random() % (reply.tree.size() + 1)) - 1;
    const TokenId token = static_cast<TokenId>(random() % kFakeVocab);
    if (reply.tree.FindChild(parent, token) < 0) {
      reply.tree.Add(token, parent, 0.5f, TierKind::kModel);
    }
  }
  return reply;
}

// Too many nodes, tokens and parents out of range, lists of unequal length, misses.
DraftReply Invalid(const DraftQuery& query) {
  DraftReply reply;
  const size_t kind = query.tokens.size() % 4;
  for (uint32_t i = 0; i < query.node_budget + (kind == 0 ? 1 : 0); ++i) {
    reply.tree.Add(kind == 1 ? kFakeVocab + 7 : static_cast<TokenId>(i % kFakeVocab),
                   kind == 2 ? 1000 : static_cast<int32_t>(i) - 1, 0.5f, TierKind::kModel);
  }
  if (kind == 3) reply.tree.parents.pop_back();
  reply.missed = kind == 3;
  return reply;
}

DraftReply Throws(const DraftQuery& query) {
  if (query.tokens.size() % 3 == 0) throw std::bad_alloc();
  return Oracle(query);
}

GenerationRequest Request(int seed, bool sampled) {
  GenerationRequest request;
  std::mt19937 random(seed);
  for (int i = 0; i < 1 + seed % 40; ++i) request.prompt.push_back(random() % kFakeVocab);
  request.max_tokens = 1 + seed * 7 % 60;
  request.final_tokens = {kFakeEos};
  if (seed % 3 == 0) request.stop = {"ab", "q"};
  if (sampled) {
    request.sampling.temperature = 0.8f;
    request.sampling.top_p = 0.9f;
    request.sampling.repetition_penalty = 1.2f;
    request.sampling.presence_penalty = 0.3f;
    request.sampling.seed = seed;
  }
  request.logprobs = true;
  return request;
}

// Every node that is drafted is verified.
SchedulerOptions FixedBudget() {
  SchedulerOptions options;
  options.measured_budget = false;
  return options;
}

int64_t PagesNotInUse(const FakeEngine& engine) {
  return engine.kv_pages_free() + engine.kv_pages_kept();
}

std::vector<std::shared_ptr<Recorder>> RunAll(std::unique_ptr<DraftSource> source, bool sampled,
                                              int count, FakeEngine& engine,
                                              SchedulerOptions options = FixedBudget(),
                                              uint64_t* preemptions = nullptr) {
  options.prefill_chunk = 8;
  FakeTokenizer tokenizer;
  std::vector<std::shared_ptr<Recorder>> sinks;
  Scheduler scheduler(options, engine, tokenizer, std::move(source));
  for (int i = 0; i < count; ++i) {
    sinks.push_back(std::make_shared<Recorder>());
    EXPECT_TRUE(scheduler.Submit(Request(i, sampled), sinks.back()).ok());
  }
  EXPECT_TRUE(scheduler.WaitIdle(absl::Seconds(60)));
  for (const auto& sink : sinks) sink->done.WaitForNotification();
  EXPECT_EQ(PagesNotInUse(engine), engine.info().kv_pages_total);
  if (preemptions != nullptr) *preemptions = scheduler.preemptions();
  return sinks;
}

class Exactness : public testing::TestWithParam<bool> {};

TEST_P(Exactness, DraftsChangeNothing) {
  constexpr int kRequests = 80;
  SchedulerOptions alone;
  alone.max_batch = 1;
  FakeEngine plain_engine;
  const auto plain = RunAll(NewNoDraftSource(), GetParam(), kRequests, plain_engine, alone);
  for (const TreeMaker& make :
       {TreeMaker(Oracle), TreeMaker(RandomTree), TreeMaker(Invalid), TreeMaker(Throws)}) {
    for (const bool measured : {false, true}) {
      FakeEngine engine;
      SchedulerOptions options;
      options.measured_budget = measured;
      const auto drafted = RunAll(Scripted(make), GetParam(), kRequests, engine, options);
      EXPECT_GT(engine.widest(), 1u);
      for (int i = 0; i < kRequests; ++i) {
        ASSERT_TRUE(drafted[i]->status.ok());
        ASSERT_EQ(drafted[i]->tokens, plain[i]->tokens) << i;
        ASSERT_EQ(drafted[i]->text, plain[i]->text) << i;
        ASSERT_EQ(drafted[i]->reason, plain[i]->reason) << i;
        ASSERT_EQ(drafted[i]->logprobs, plain[i]->logprobs) << i;
        ASSERT_LE(drafted[i]->stats.steps, plain[i]->stats.steps) << i;
      }
      EXPECT_EQ(engine.kv_pages_free(), engine.info().kv_pages_total);
    }
  }
}
INSTANTIATE_TEST_SUITE_P(GreedyAndSampled, Exactness, testing::Bool());

TEST(Scheduler, OracleDraftsSaveStepsAndAreCounted) {
  FakeEngine engine;
  GenerationRequest request = Request(5, false);
  request.final_tokens.clear();
  request.max_tokens = 50;
  FakeTokenizer tokenizer;
  auto sink = std::make_shared<Recorder>();
  Scheduler scheduler(FixedBudget(), engine, tokenizer, Scripted(Oracle));
  ASSERT_TRUE(scheduler.Submit(request, sink).ok());
  sink->done.WaitForNotification();
  EXPECT_EQ(sink->tokens.size(), 50u);
  EXPECT_EQ(sink->reason, FinishReason::kLength);
  const GenerationStats& stats = sink->stats;
  EXPECT_LT(stats.steps, 15u);
  // The first token is the prefill's; each step adds one to what it accepts.
  EXPECT_EQ(stats.accepted + stats.steps + 1, 50u);
  uint64_t by_position = 0;
  for (const uint64_t n : stats.accepted_by_position) by_position += n;
  EXPECT_EQ(by_position, stats.accepted);
  EXPECT_EQ(stats.accepted_by_tier[static_cast<int>(TierKind::kContext)], stats.accepted);
}

// Preempted, stopped within what was accepted, drafted for by all tiers: the counters miss nothing
// and count nothing twice.
TEST(Scheduler, CountersAreTheSumsOfTheRequestsFigures) {
  const auto late = [](const DraftQuery& query) {
    DraftReply reply = query.tokens.size() % 5 == 0 ? RandomTree(query) : Oracle(query);
    reply.missed = query.tokens.size() % 7 == 0;
    return reply;
  };
  for (const int64_t pages : {1024, 40}) {
    for (const bool measured : {false, true}) {
      FakeEngine engine(pages);
      FakeTokenizer tokenizer;
      SchedulerOptions options;
      options.measured_budget = measured;
      options.prefill_chunk = 8;
      Scheduler scheduler(options, engine, tokenizer, Scripted(late));
      std::vector<std::shared_ptr<Recorder>> sinks;
      for (int i = 0; i < 60; ++i) {
        sinks.push_back(std::make_shared<Recorder>());
        if (i % 10 == 9) sinks.back()->cancel_after = 5;
        ASSERT_TRUE(scheduler.Submit(Request(i, i % 2 == 0), sinks.back()).ok());
      }
      ASSERT_TRUE(scheduler.WaitIdle(absl::Seconds(60)));
      GenerationStats sum;
      std::array<SchedulerCounters::Nodes, SchedulerCounters::kPositions> positions;
      for (const auto& sink : sinks) {
        sink->done.WaitForNotification();
        const GenerationStats& stats = sink->stats;
        sum.prompt_tokens += stats.prompt_tokens;
        sum.cached_prompt_tokens += stats.cached_prompt_tokens;
        sum.output_tokens += stats.output_tokens;
        sum.steps += stats.steps;
        sum.draft_misses += stats.draft_misses;
        sum.preemptions += stats.preemptions;
        sum.drafted += stats.drafted;
        sum.accepted += stats.accepted;
        for (int tier = 0; tier < kTierKinds; ++tier) {
          sum.drafted_by_tier[tier] += stats.drafted_by_tier[tier];
          sum.accepted_by_tier[tier] += stats.accepted_by_tier[tier];
        }
        for (size_t i = 0; i < stats.drafted_by_position.size(); ++i) {
          SchedulerCounters::Nodes& at = positions[std::min(i, positions.size() - 1)];
          at.drafted.Add(stats.drafted_by_position[i]);
          at.accepted.Add(stats.accepted_by_position[i]);
        }
      }
      const SchedulerCounters& counters = scheduler.counters();
      EXPECT_EQ(counters.prompt_tokens.value(), sum.prompt_tokens);
      EXPECT_EQ(counters.cached_prompt_tokens.value(), sum.cached_prompt_tokens);
      EXPECT_EQ(counters.output_tokens.value(), sum.output_tokens);
      EXPECT_EQ(counters.request_steps.value(), sum.steps);
      EXPECT_EQ(counters.draft_misses.value(), sum.draft_misses);
      EXPECT_EQ(counters.preemptions.value(), sum.preemptions);
      EXPECT_GT(sum.draft_misses, 0u);
      EXPECT_TRUE(pages > 100 || sum.preemptions > 0);
      for (int tier = 0; tier < kTierKinds; ++tier) {
        EXPECT_EQ(counters.by_tier[tier].drafted.value(), sum.drafted_by_tier[tier]) << tier;
        EXPECT_EQ(counters.by_tier[tier].accepted.value(), sum.accepted_by_tier[tier]) << tier;
      }
      for (size_t i = 0; i < positions.size(); ++i) {
        EXPECT_EQ(counters.by_position[i].drafted.value(), positions[i].drafted.value()) << i;
        EXPECT_EQ(counters.by_position[i].accepted.value(), positions[i].accepted.value()) << i;
      }
      uint64_t verified = 0;
      uint64_t accepted = 0;
      for (size_t bin = 0; bin < counters.by_confidence.size(); ++bin) {
        const SchedulerCounters::Confidence& confidence = counters.by_confidence[bin];
        verified += confidence.verified.value();
        accepted += confidence.accepted.value();
        EXPECT_LE(confidence.claimed.value(), confidence.verified.value() *
                                                  AcceptanceCurve::HighOf(static_cast<int>(bin)) *
                                                  (1 + 1e-9));
      }
      EXPECT_EQ(verified, sum.drafted);
      // Also what stood behind a stop string.
      EXPECT_GE(accepted, sum.accepted);
      EXPECT_EQ(counters.active.value(), 0);
      EXPECT_EQ(counters.preempted.value(), 0);
      EXPECT_EQ(scheduler.queue_length(), 0u);
    }
  }
}

TEST(SchedulerCounters, ATreeIsCountedByTierDepthAndConfidence) {
  SchedulerCounters counters;
  DraftTree tree;
  tree.Add(1, -1, 0.5f, TierKind::kContext);
  tree.Add(2, 0, 0.5f, TierKind::kModel);
  tree.Add(3, 0, 1.0f, TierKind::kCorpus);
  // The second accepted node stands behind a stop string.
  const std::vector<int32_t> verified = {0, 2};
  counters.CountTree(tree, verified, 1);
  const auto tier = [&](TierKind kind) -> const SchedulerCounters::Nodes& {
    return counters.by_tier[static_cast<size_t>(kind)];
  };
  for (const TierKind kind : {TierKind::kContext, TierKind::kModel, TierKind::kCorpus}) {
    EXPECT_EQ(tier(kind).drafted.value(), 1u);
    EXPECT_EQ(tier(kind).accepted.value(), kind == TierKind::kContext ? 1u : 0u);
  }
  EXPECT_EQ(counters.by_position[0].drafted.value(), 1u);
  EXPECT_EQ(counters.by_position[1].drafted.value(), 1u);
  EXPECT_EQ(counters.by_position[2].drafted.value(), 0u);
  EXPECT_EQ(counters.by_position[0].accepted.value(), 1u);
  EXPECT_EQ(counters.by_position[1].accepted.value(), 0u);
  const auto& half = counters.by_confidence[AcceptanceCurve::BinOf(0.5)];
  EXPECT_EQ(half.verified.value(), 2u);
  EXPECT_DOUBLE_EQ(half.claimed.value(), 1.0);
  EXPECT_EQ(half.accepted.value(), 2u);
  EXPECT_EQ(counters.by_confidence[AcceptanceCurve::BinOf(0.25)].verified.value(), 1u);
  EXPECT_EQ(counters.by_confidence[AcceptanceCurve::BinOf(0.25)].accepted.value(), 0u);
}

TEST(SchedulerCounters, DeepNodesShareTheLastPosition) {
  SchedulerCounters counters;
  DraftTree tree;
  std::vector<int32_t> path;
  for (int32_t i = 0; i < 40; ++i) path.push_back(tree.Add(i, i - 1, 1.0f, TierKind::kModel));
  counters.CountTree(tree, path, path.size());
  EXPECT_EQ(counters.by_position[30].accepted.value(), 1u);
  EXPECT_EQ(counters.by_position[31].drafted.value(), 9u);
  EXPECT_EQ(counters.by_position[31].accepted.value(), 9u);
}

TEST(Scheduler, NoQuestionIsAskedWithoutSpeculation) {
  FakeEngine engine;
  FakeTokenizer tokenizer;
  std::atomic<int> asked = 0;
  Scheduler scheduler(FixedBudget(), engine, tokenizer, Scripted([&](const DraftQuery& q) {
                        ++asked;
                        return Oracle(q);
                      }));
  for (const bool disable : {true, false}) {
    GenerationRequest request = Request(8, false);
    request.max_tokens = 20;
    request.speculate = !disable;
    if (!disable) request.max_nodes = 0;
    auto sink = std::make_shared<Recorder>();
    ASSERT_TRUE(scheduler.Submit(request, sink).ok());
    sink->done.WaitForNotification();
    EXPECT_EQ(sink->stats.drafted, 0u);
  }
  EXPECT_EQ(asked, 0);
}

TEST(Scheduler, RefusesWhatCannotRun) {
  FakeEngine engine(/*pages=*/4, /*max_sequence_length=*/64);
  FakeTokenizer tokenizer;
  Scheduler scheduler(FixedBudget(), engine, tokenizer, NewNoDraftSource());
  const auto submit = [&](std::vector<TokenId> prompt, int64_t max_tokens) {
    GenerationRequest request;
    request.prompt = std::move(prompt);
    request.max_tokens = max_tokens;
    return scheduler.Submit(request, std::make_shared<Recorder>());
  };
  EXPECT_EQ(submit({}, 1).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(submit({kFakeVocab}, 1).message()),
              testing::HasSubstr(std::to_string(kFakeVocab)));
  EXPECT_EQ(submit({1}, 0).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(submit(std::vector<TokenId>(64, 1), 1).code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(submit({1}, 60).code(), absl::StatusCode::kResourceExhausted);
  scheduler.StopAdmission();
  EXPECT_EQ(submit({1}, 1).code(), absl::StatusCode::kUnavailable);
}

// 40 pages hold one or two of the longest: the youngest give way and are computed anew.
TEST(Scheduler, ScarcePagesChangeNoToken) {
  constexpr int kRequests = 60;
  SchedulerOptions alone = FixedBudget();
  alone.max_batch = 1;
  for (const bool sampled : {false, true}) {
    FakeEngine plain_engine;
    const auto plain = RunAll(NewNoDraftSource(), sampled, kRequests, plain_engine, alone);
    for (const bool measured : {false, true}) {
      FakeEngine engine(/*pages=*/40);
      SchedulerOptions options;
      options.measured_budget = measured;
      uint64_t preemptions = 0;
      const auto sinks =
          RunAll(Scripted(Oracle), sampled, kRequests, engine, options, &preemptions);
      EXPECT_GT(preemptions, 0u);
      uint64_t reported = 0;
      for (int i = 0; i < kRequests; ++i) {
        ASSERT_TRUE(sinks[i]->status.ok()) << sinks[i]->status;
        ASSERT_EQ(sinks[i]->tokens, plain[i]->tokens) << i;
        ASSERT_EQ(sinks[i]->text, plain[i]->text) << i;
        ASSERT_EQ(sinks[i]->logprobs, plain[i]->logprobs) << i;
        reported += sinks[i]->stats.preemptions;
      }
      EXPECT_EQ(reported, preemptions);
    }
  }
}

// Beside a prompt of 2,000 tokens, in chunks of 8, a short one is answered at once.
TEST(Scheduler, ALongPromptHoldsUpNobodyElses) {
  FakeEngine engine(10000, 4096);
  FakeTokenizer tokenizer;
  SchedulerOptions options = FixedBudget();
  options.prefill_chunk = 8;
  absl::Notification go;
  Scheduler scheduler(options, engine, tokenizer, Scripted([&](const DraftQuery&) {
                        go.WaitForNotification();
                        return DraftReply();
                      }));
  const auto submit = [&](size_t prompt, int64_t tokens) {
    GenerationRequest request;
    request.prompt.assign(prompt, 1);
    request.max_tokens = tokens;
    auto sink = std::make_shared<Recorder>();
    EXPECT_TRUE(scheduler.Submit(request, sink).ok());
    return sink;
  };
  // Holds the scheduler until both others wait.
  const auto first = submit(1, 3);
  const auto slow = submit(2000, 1);
  const auto fast = submit(12, 20);
  bool fast_was_first = false;
  fast->on_finish = [&] { fast_was_first = !slow->done.HasBeenNotified(); };
  go.Notify();
  for (const auto& sink : {first, slow, fast}) sink->done.WaitForNotification();
  EXPECT_TRUE(fast_was_first);
  EXPECT_EQ(slow->tokens.size(), 1u);
  EXPECT_EQ(fast->tokens.size(), 20u);
}

// More short prompts than a step has rows for, a new one for each that ends.
TEST(Scheduler, ShortPromptsDoNotKeepALongOneWaitingForEver) {
  constexpr int kShort = 6;
  FakeEngine engine(10000, 4096);
  FakeTokenizer tokenizer;
  SchedulerOptions options = FixedBudget();
  options.prefill_chunk = 2;
  options.prefix_cache_share = 0;
  Scheduler scheduler(options, engine, tokenizer, Scripted(Oracle));
  absl::Notification begun;
  const auto submit = [&](size_t prompt, const std::shared_ptr<Recorder>& sink) {
    GenerationRequest request;
    request.prompt.assign(prompt, 1);
    request.max_tokens = 1;
    ASSERT_TRUE(scheduler.Submit(request, sink).ok());
  };
  auto slow = std::make_shared<Recorder>();
  slow->on_finish = [&] { begun.WaitForNotification(); };
  submit(100, slow);
  std::atomic<int> answered = 0;
  std::vector<std::shared_ptr<Recorder>> shorts;
  std::function<void()> submit_short = [&] {
    if (slow->done.HasBeenNotified() || answered > 5000) return;
    shorts.push_back(std::make_shared<Recorder>());
    shorts.back()->on_finish = [&] {
      // Until then another thread submits.
      begun.WaitForNotification();
      ++answered;
      submit_short();
    };
    submit(10, shorts.back());
  };
  for (int i = 0; i < kShort; ++i) submit_short();
  begun.Notify();
  slow->done.WaitForNotification();
  EXPECT_TRUE(scheduler.WaitIdle(absl::Seconds(60)));
  // A row a step, beside one for the others.
  EXPECT_LT(answered, 30);
  EXPECT_GT(answered, 5);
}

TEST(Scheduler, CancellationFreesAtOnceAndTheQueueIsBounded) {
  FakeEngine engine(100000, 1 << 20);
  FakeTokenizer tokenizer;
  SchedulerOptions options;
  options.max_batch = 1;
  options.max_queue = 2;
  absl::Notification go;
  Scheduler scheduler(options, engine, tokenizer, Scripted([&](const DraftQuery&) {
                        go.WaitForNotification();
                        return DraftReply();
                      }));
  GenerationRequest request = Request(4, false);
  request.final_tokens.clear();
  request.max_tokens = 100000;
  std::vector<std::shared_ptr<Recorder>> sinks;
  const auto submit = [&] {
    sinks.push_back(std::make_shared<Recorder>());
    sinks.back()->cancel_after = 5;
    return scheduler.Submit(request, sinks.back());
  };
  ASSERT_TRUE(submit().ok());
  while (engine.kv_pages_free() == 100000) absl::SleepFor(absl::Milliseconds(1));
  ASSERT_TRUE(submit().ok());
  ASSERT_TRUE(submit().ok());
  EXPECT_EQ(submit().code(), absl::StatusCode::kResourceExhausted);
  sinks.pop_back();
  sinks[1]->cancel = true;
  go.Notify();
  for (const auto& sink : sinks) {
    sink->done.WaitForNotification();
    EXPECT_EQ(sink->status.code(), absl::StatusCode::kCancelled);
  }
  EXPECT_TRUE(sinks[1]->tokens.empty());
  EXPECT_TRUE(scheduler.WaitIdle(absl::Seconds(10)));
  EXPECT_EQ(PagesNotInUse(engine), 100000);
}

// A tenant that fills the queue keeps nobody else out of it.
TEST(Scheduler, ACrowdMakesWayInAFullQueue) {
  FakeEngine engine;
  FakeTokenizer tokenizer;
  SchedulerOptions options = FixedBudget();
  options.max_batch = 1;
  options.max_queue = 4;
  absl::Notification drafting, go;
  Scheduler scheduler(options, engine, tokenizer, Scripted([&](const DraftQuery&) {
                        if (!drafting.HasBeenNotified()) drafting.Notify();
                        go.WaitForNotification();
                        return DraftReply();
                      }));
  const auto submit = [&](const std::string& tenant, const std::shared_ptr<Recorder>& sink) {
    GenerationRequest request = Request(5, false);
    request.final_tokens.clear();
    request.tenant = tenant;
    return scheduler.Submit(request, sink);
  };
  std::vector<std::shared_ptr<Recorder>> crowd, few;
  for (int i = 0; i < 5; ++i) {
    crowd.push_back(std::make_shared<Recorder>());
    ASSERT_TRUE(submit("crowd", crowd.back()).ok());
    // The first runs, the others wait.
    if (i == 0) drafting.WaitForNotification();
  }
  auto refused = std::make_shared<Recorder>();
  EXPECT_EQ(submit("crowd", refused).code(), absl::StatusCode::kResourceExhausted);
  for (int i = 0; i < 2; ++i) {
    few.push_back(std::make_shared<Recorder>());
    ASSERT_TRUE(submit("few", few.back()).ok());
    // The newest of the crowd.
    crowd[static_cast<size_t>(4 - i)]->done.WaitForNotification();
    EXPECT_EQ(crowd[static_cast<size_t>(4 - i)]->status.code(),
              absl::StatusCode::kResourceExhausted);
  }
  // Two each: nobody makes way any more.
  EXPECT_EQ(submit("few", refused).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(scheduler.queue_length(), 4u);
  go.Notify();
  EXPECT_TRUE(scheduler.WaitIdle(absl::Seconds(10)));
  for (const auto& sink : {crowd[0], crowd[1], crowd[2], few[0], few[1]}) {
    sink->done.WaitForNotification();
    EXPECT_TRUE(sink->status.ok()) << sink->status;
    EXPECT_EQ(sink->tokens, crowd[0]->tokens);
  }
  EXPECT_TRUE(refused->tokens.empty());
  EXPECT_EQ(PagesNotInUse(engine), engine.info().kv_pages_total);
}

// What a query says of the rows of the step before: each with the model's own best next tokens.
TEST(Scheduler, RankingsAreThoseOfTheRowsOfTheLastStep) {
  for (const int recycled : {0, 3}) {
    FakeEngine engine;
    FakeTokenizer tokenizer;
    SchedulerOptions options = FixedBudget();
    options.recycled_tokens = recycled;
    std::vector<TokenId> last_tokens;
    DraftTree last_tree;
    size_t checked = 0;
    const auto path_to = [&](int32_t node) {
      std::vector<int32_t> nodes;
      for (; node >= 0; node = last_tree.parents[node]) nodes.push_back(last_tree.tokens[node]);
      std::vector<int32_t> path(last_tokens.begin(), last_tokens.end());
      path.insert(path.end(), nodes.rbegin(), nodes.rend());
      return path;
    };
    GenerationRequest request = Request(7, true);
    request.final_tokens.clear();
    request.max_tokens = 60;
    // Ahead of the first question only the prompt's last row is computed.
    last_tokens = request.prompt;
    Scheduler scheduler(
        options, engine, tokenizer, Scripted([&](const DraftQuery& query) {
          EXPECT_EQ(query.rankings.size(), recycled == 0 ? 0u : 1u + last_tree.tokens.size());
          for (size_t row = 0; row < query.rankings.size(); ++row) {
            const RowRanking& ranking = query.rankings[row];
            const std::vector<int32_t> path = path_to(static_cast<int32_t>(row) - 1);
            EXPECT_EQ(ranking.token, path.back());
            if (path.size() > 1) {
              EXPECT_EQ(ranking.previous_token, path[path.size() - 2]);
            }
            std::vector<float> logits(kFakeVocab);
            FakeLogits(path, logits);
            EXPECT_EQ(ranking.size, 3);
            for (int k = 0; k < ranking.size; ++k) {
              const auto best = std::max_element(logits.begin(), logits.end());
              EXPECT_EQ(ranking.next_tokens[k], best - logits.begin());
              *best = -1e9f;
            }
            ++checked;
          }
          DraftReply reply = RandomTree(query);
          last_tokens.assign(query.tokens.begin(), query.tokens.end());
          last_tree = reply.tree;
          return reply;
        }));
    auto sink = std::make_shared<Recorder>();
    ASSERT_TRUE(scheduler.Submit(request, sink).ok());
    sink->done.WaitForNotification();
    EXPECT_EQ(sink->tokens.size(), 60u);
    EXPECT_GE(checked, recycled == 0 ? 0u : 400u);
  }
}

// The first question tells of all the prompt's rows, however they were cut into chunks.
TEST(Scheduler, RowsOfPromptsAreRankedWhereThatIsWanted) {
  std::vector<TokenId> plain;
  for (const int chunk : {0, 3, 256}) {
    FakeEngine engine;
    FakeTokenizer tokenizer;
    SchedulerOptions options = FixedBudget();
    options.recycle_prompts = chunk > 0;
    options.prefill_chunk = std::max(chunk, 1);
    GenerationRequest request = Request(7, true);
    request.max_tokens = 20;
    const std::vector<TokenId> prompt = request.prompt;
    std::vector<RowRanking> first;
    bool asked = false;
    Scheduler scheduler(options, engine, tokenizer, Scripted([&](const DraftQuery& query) {
                          if (!asked) first.assign(query.rankings.begin(), query.rankings.end());
                          asked = true;
                          return Oracle(query);
                        }));
    auto sink = std::make_shared<Recorder>();
    ASSERT_TRUE(scheduler.Submit(request, sink).ok());
    sink->done.WaitForNotification();
    if (chunk == 0) {
      plain = sink->tokens;
      EXPECT_EQ(first.size(), 1u);
      continue;
    }
    EXPECT_EQ(sink->tokens, plain);
    ASSERT_EQ(first.size(), prompt.size());
    for (size_t i = 0; i < first.size(); ++i) {
      EXPECT_EQ(first[i].token, prompt[i]);
      EXPECT_EQ(first[i].previous_token, i == 0 ? -1 : prompt[i - 1]);
      std::vector<float> logits(kFakeVocab);
      FakeLogits({prompt.begin(), prompt.begin() + static_cast<ptrdiff_t>(i) + 1}, logits);
      EXPECT_EQ(first[i].next_tokens[0],
                std::max_element(logits.begin(), logits.end()) - logits.begin());
    }
  }
}

TEST(Scheduler, TreesOfAllSequencesTogetherAreBounded) {
  FakeEngine engine(100000);
  FakeTokenizer tokenizer;
  Scheduler scheduler(FixedBudget(), engine, tokenizer, Scripted(RandomTree));
  std::vector<std::shared_ptr<Recorder>> sinks;
  for (int i = 0; i < 16; ++i) {
    GenerationRequest request = Request(3, false);
    request.final_tokens.clear();
    request.stop.clear();
    request.max_tokens = 400;
    // One that asks for little gets it.
    request.max_nodes = i == 0 ? 4 : 256;
    sinks.push_back(std::make_shared<Recorder>());
    ASSERT_TRUE(scheduler.Submit(request, sinks.back()).ok());
  }
  for (const auto& sink : sinks) {
    sink->done.WaitForNotification();
    EXPECT_EQ(sink->tokens, sinks[0]->tokens);
    EXPECT_GT(sink->stats.drafted, 0u);
  }
  EXPECT_EQ(engine.widest(), 16u);
  EXPECT_GT(engine.most_logit_rows(), 1000u);
  EXPECT_LE(engine.most_logit_rows(), 2048u + 16u);
}

TEST(Scheduler, WhatThrowsEndsItsRequestsAndNothingElse) {
  FakeEngine engine;
  FakeTokenizer tokenizer;
  Scheduler scheduler(FixedBudget(), engine, tokenizer, Scripted(Oracle));
  const auto nothing = [](FakeEngine&) {};
  const auto step = [](FakeEngine& fake) { fake.ThrowOnce(); };
  const auto admission = [](FakeEngine& fake) { fake.ThrowOnNewSequence(); };
  const std::pair<bool, std::function<void(FakeEngine&)>> turns[] = {
      {false, nothing}, {true, step}, {false, nothing}, {true, admission}, {false, nothing}};
  for (const auto& [fails, prepare] : turns) {
    prepare(engine);
    auto sink = std::make_shared<Recorder>();
    ASSERT_TRUE(scheduler.Submit(Request(5, false), sink).ok());
    sink->done.WaitForNotification();
    EXPECT_EQ(sink->status.code(), fails ? absl::StatusCode::kInternal : absl::StatusCode::kOk);
    EXPECT_EQ(sink->tokens.empty(), fails);
    EXPECT_TRUE(scheduler.WaitIdle(absl::Seconds(10)));
    EXPECT_EQ(PagesNotInUse(engine), engine.info().kv_pages_total);
  }
}

// No draft fails a request, not even by the memory that its rows take.
TEST_P(Exactness, PassesThatFailWithDraftsAreComputedWithoutThem) {
  FakeEngine plain_engine;
  const auto plain = RunAll(NewNoDraftSource(), GetParam(), 20, plain_engine);
  for (const int batch : {1, 8}) {
    FakeEngine engine;
    engine.RefuseTrees();
    SchedulerOptions options = FixedBudget();
    options.max_batch = batch;
    const auto drafted = RunAll(Scripted(Oracle), GetParam(), 20, engine, options);
    for (size_t i = 0; i < plain.size(); ++i) {
      EXPECT_TRUE(drafted[i]->status.ok()) << drafted[i]->status;
      EXPECT_EQ(drafted[i]->tokens, plain[i]->tokens);
      EXPECT_EQ(drafted[i]->text, plain[i]->text);
      EXPECT_EQ(drafted[i]->stats.accepted, 0u);
    }
  }
}

TEST(Scheduler, ARequestWhosePassIsNotCommittedHasNothingOfIt) {
  FakeEngine engine;
  FakeTokenizer tokenizer;
  GenerationRequest request = Request(5, false);
  request.max_tokens = 40;
  std::vector<TokenId> whole;
  for (const int commits : {-1, 4}) {
    Scheduler scheduler(FixedBudget(), engine, tokenizer, Scripted(Oracle));
    engine.RefuseCommitAfter(commits);
    auto sink = std::make_shared<Recorder>();
    ASSERT_TRUE(scheduler.Submit(request, sink).ok());
    sink->done.WaitForNotification();
    if (commits < 0) {
      ASSERT_TRUE(sink->status.ok()) << sink->status;
      whole = sink->tokens;
      continue;
    }
    EXPECT_EQ(sink->status.code(), absl::StatusCode::kInternal) << sink->status;
    ASSERT_LT(sink->tokens.size(), whole.size());
    EXPECT_FALSE(sink->tokens.empty());
    EXPECT_TRUE(std::equal(sink->tokens.begin(), sink->tokens.end(), whole.begin()));
    EXPECT_EQ(sink->stats.output_tokens, sink->tokens.size());
    // The first pass is the prompt's.
    EXPECT_EQ(sink->stats.steps, 3u);
    EXPECT_TRUE(scheduler.WaitIdle(absl::Seconds(10)));
    EXPECT_EQ(PagesNotInUse(engine), engine.info().kv_pages_total);
  }
}

// Its texts begin with a capital, as those of SentencePiece begin without a space.
class CapitalTokenizer final : public FakeTokenizer {
  class CapitalStream final : public Stream {
   public:
    std::string Push(TokenId id) override {
      return std::string(1,
                         static_cast<char>((std::exchange(first_, false) ? 'A' : 'a') + id % 26));
    }
    std::string Finish() override { return ""; }

   private:
    bool first_ = true;
  };
  std::unique_ptr<Stream> NewStream(bool) const override {
    return std::make_unique<CapitalStream>();
  }
};

TEST(Scheduler, TheTextContinuesThePrompts) {
  for (const size_t prompt : {1, 40}) {
    FakeEngine engine;
    CapitalTokenizer tokenizer;
    Scheduler scheduler(FixedBudget(), engine, tokenizer, Scripted(Oracle));
    GenerationRequest request;
    request.prompt.assign(prompt, 3);
    request.max_tokens = 20;
    auto sink = std::make_shared<Recorder>();
    ASSERT_TRUE(scheduler.Submit(request, sink).ok());
    sink->done.WaitForNotification();
    EXPECT_EQ(sink->text.size(), 20u);
    EXPECT_TRUE(std::all_of(sink->text.begin(), sink->text.end(), [](char c) {
      return c >= 'a' && c <= 'z';
    })) << sink->text;
  }
}

// Only what pays is verified, and the source hears of its own tree's nodes.
TEST(Scheduler, TheBudgetFollowsTheCostOfRows) {
  for (const double per_row : {1e-4, 1.0}) {
    StepCost cost;
    cost.Learn(1, 0, 1e-3);
    cost.Learn(1025, 0, 1e-3 + 1024 * per_row);
    FakeEngine engine;
    FakeTokenizer tokenizer;
    std::vector<int32_t> feedback;
    const auto two_nodes = [&](const DraftQuery& query) {
      feedback.insert(feedback.end(), query.accepted_nodes.begin(), query.accepted_nodes.end());
      std::vector<float> logits(kFakeVocab);
      FakeLogits(std::vector<int32_t>(query.tokens.begin(), query.tokens.end()), logits);
      const auto best =
          static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
      DraftReply reply;
      reply.tree.Add((best + 1) % kFakeVocab, -1, 0.0001f, TierKind::kCorpus);
      reply.tree.Add(best, -1, 0.9f, TierKind::kContext);
      return reply;
    };
    GenerationRequest request = Request(5, false);
    request.final_tokens.clear();
    request.max_tokens = 20;
    auto sink = std::make_shared<Recorder>();
    Scheduler scheduler({}, engine, tokenizer, Scripted(two_nodes), cost);
    ASSERT_TRUE(scheduler.Submit(request, sink).ok());
    sink->done.WaitForNotification();
    EXPECT_EQ(sink->tokens.size(), 20u);
    if (per_row == 1.0) {
      EXPECT_EQ(sink->stats.drafted, 0u);
      EXPECT_TRUE(feedback.empty());
    } else {
      EXPECT_EQ(sink->stats.drafted, sink->stats.accepted);
      EXPECT_GT(sink->stats.accepted, 8u);
      // Not told of the last step's.
      EXPECT_EQ(feedback, std::vector<int32_t>(sink->stats.accepted - 1, 1));
    }
  }
}

// Asking takes 20 ms; steps take next to nothing.
TEST(Scheduler, AskingIsNotWhatRowsCost) {
  class SlowToAsk final : public DraftSource {
   public:
    const char* mode() const override { return "slow"; }
    bool available() const override { return true; }
    void Ask(std::span<const DraftQuery> queries) override {
      asked_ = queries.size();
      absl::SleepFor(absl::Milliseconds(20));
    }
    void Take(std::vector<DraftReply>& replies) override { replies.assign(asked_, DraftReply()); }
    void Close(uint64_t, std::span<const TokenId>) override {}

   private:
    size_t asked_ = 0;
  };
  StepCost cost;
  cost.Learn(1, 0, 1e-3);
  FakeEngine engine;
  FakeTokenizer tokenizer;
  Scheduler scheduler({}, engine, tokenizer, std::make_unique<SlowToAsk>(), cost);
  GenerationRequest request = Request(5, false);
  request.final_tokens.clear();
  request.stop.clear();
  request.max_tokens = 60;
  auto sink = std::make_shared<Recorder>();
  ASSERT_TRUE(scheduler.Submit(request, sink).ok());
  EXPECT_TRUE(scheduler.WaitIdle(absl::Seconds(60)));
  EXPECT_EQ(sink->tokens.size(), 60u);
  EXPECT_LT(scheduler.counters().step_cost[0].value(), 5e-3);
}

// Conversations of a few turns: all of a system begin alike, and a turn's prompt is the prompt and
// answer before it and something more.
class Conversations {
 public:
  explicit Conversations(bool sampled) : sampled_(sampled) {}

  // Turn by turn, all conversations at once; the answers of all turns.
  std::vector<std::shared_ptr<Recorder>> Run(Scheduler& scheduler) {
    constexpr int kTurns = 3;
    std::vector<std::shared_ptr<Recorder>> answers;
    std::vector<std::vector<TokenId>> texts(kConversations);
    for (int turn = 0; turn < kTurns; ++turn) {
      const size_t first = answers.size();
      for (int i = 0; i < kConversations; ++i) {
        std::mt19937 random(turn == 0 ? i % 3 : 100 + i * kTurns + turn);
        const int more = turn == 0 ? 21 : 1 + static_cast<int>(random() % 9);
        for (int k = 0; k < more; ++k) texts[i].push_back(random() % kFakeVocab);
        if (turn == 0) texts[i].push_back(i);
        GenerationRequest request = Request(i, sampled_);
        request.prompt = texts[i];
        request.max_tokens = 30;
        answers.push_back(std::make_shared<Recorder>());
        EXPECT_TRUE(scheduler.Submit(request, answers.back()).ok());
      }
      EXPECT_TRUE(scheduler.WaitIdle(absl::Seconds(60)));
      for (int i = 0; i < kConversations; ++i) {
        const std::vector<TokenId>& answer = answers[first + i]->tokens;
        texts[i].insert(texts[i].end(), answer.begin(), answer.end());
      }
    }
    return answers;
  }

 private:
  static constexpr int kConversations = 12;
  const bool sampled_;
};

TEST_P(Exactness, KeptPrefixesChangeNothing) {
  FakeTokenizer tokenizer;
  SchedulerOptions options = FixedBudget();
  options.prefill_chunk = 8;
  options.prefix_cache_share = 0;
  FakeEngine plain_engine;
  Scheduler plain_scheduler(options, plain_engine, tokenizer, NewNoDraftSource());
  const auto plain = Conversations(GetParam()).Run(plain_scheduler);
  EXPECT_EQ(plain_engine.kv_pages_kept(), 0);
  for (const TreeMaker& make : {TreeMaker([](const DraftQuery&) { return DraftReply(); }),
                                TreeMaker(Oracle), TreeMaker(RandomTree)}) {
    for (const double share : {1.0, 0.2, 0.01}) {
      // 36 pages hold the longest alone: kept pages must go, and the youngest too.
      for (const int64_t pages : {int64_t{1024}, int64_t{36}}) {
        FakeEngine engine(pages);
        options.prefix_cache_share = share;
        Scheduler scheduler(options, engine, tokenizer, Scripted(make));
        const auto answers = Conversations(GetParam()).Run(scheduler);
        uint64_t cached = 0;
        for (size_t i = 0; i < answers.size(); ++i) {
          ASSERT_TRUE(answers[i]->status.ok()) << answers[i]->status;
          ASSERT_EQ(answers[i]->tokens, plain[i]->tokens) << i;
          ASSERT_EQ(answers[i]->text, plain[i]->text) << i;
          ASSERT_EQ(answers[i]->logprobs, plain[i]->logprobs) << i;
          ASSERT_EQ(plain[i]->stats.cached_prompt_tokens, 0u);
          ASSERT_LT(answers[i]->stats.cached_prompt_tokens, answers[i]->stats.prompt_tokens);
          cached += answers[i]->stats.cached_prompt_tokens;
        }
        if (pages == 1024 && share == 1.0) {
          EXPECT_EQ(scheduler.preemptions(), 0u);
          // In all turns but the first, five pages of the first at least.
          EXPECT_GE(cached, 12u * 2 * 20);
        }
        EXPECT_EQ(PagesNotInUse(engine), pages);
        EXPECT_LE(engine.kv_pages_kept(), static_cast<int64_t>(share * static_cast<double>(pages)));
      }
    }
  }
}

struct PrefixRequest {
  std::string tenant;
  int prompt = 41;
  int64_t max_tokens = 8;
};

std::shared_ptr<Recorder> RunPrefixRequest(Scheduler& scheduler, const PrefixRequest& wanted,
                                           size_t cancel_after = SIZE_MAX) {
  GenerationRequest request;
  request.tenant = wanted.tenant;
  std::mt19937 random(5);
  for (int i = 0; i < wanted.prompt; ++i) request.prompt.push_back(random() % kFakeVocab);
  request.max_tokens = wanted.max_tokens;
  auto sink = std::make_shared<Recorder>();
  sink->cancel_after = cancel_after;
  EXPECT_TRUE(scheduler.Submit(request, sink).ok());
  sink->done.WaitForNotification();
  return sink;
}

TEST(Scheduler, APromptIsComputedOnceATenant) {
  FakeEngine engine;
  FakeTokenizer tokenizer;
  Scheduler scheduler(FixedBudget(), engine, tokenizer, NewNoDraftSource());
  const auto first = RunPrefixRequest(scheduler, {"a"});
  for (const auto& [tenant, cached] :
       {std::pair("a", 40u), std::pair("b", 0u), std::pair("", 0u), std::pair("b", 40u)}) {
    const int64_t before = engine.rows();
    const auto sink = RunPrefixRequest(scheduler, {tenant});
    EXPECT_EQ(sink->stats.cached_prompt_tokens, cached) << tenant;
    EXPECT_EQ(sink->stats.prompt_tokens, 41u);
    EXPECT_EQ(sink->tokens, first->tokens);
    // Prompt and answer, but for the last token and what was there.
    EXPECT_EQ(engine.rows() - before, 41 + 8 - 1 - static_cast<int64_t>(cached));
  }
  // Whole pages, and never all of the prompt.
  EXPECT_EQ(RunPrefixRequest(scheduler, {"a", 40})->stats.cached_prompt_tokens, 36u);
  EXPECT_EQ(RunPrefixRequest(scheduler, {"a", 39})->stats.cached_prompt_tokens, 36u);
}

TEST(Scheduler, WithoutExactnessNothingIsKept) {
  FakeEngine engine;
  engine.set_exact(false);
  FakeTokenizer tokenizer;
  Scheduler scheduler(FixedBudget(), engine, tokenizer, NewNoDraftSource());
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(RunPrefixRequest(scheduler, {})->stats.cached_prompt_tokens, 0u);
  }
  EXPECT_TRUE(scheduler.WaitIdle(absl::Seconds(10)));
  EXPECT_EQ(engine.kv_pages_free(), engine.info().kv_pages_total);
}

// Who comes while a prompt is answered, or after it was cancelled, finds it.
TEST(Scheduler, PromptsAreKeptAtOnceAndAlsoOfTheCancelled) {
  FakeEngine engine;
  FakeTokenizer tokenizer;
  absl::Notification answering, go;
  Scheduler scheduler(FixedBudget(), engine, tokenizer, Scripted([&](const DraftQuery&) {
                        if (!answering.HasBeenNotified()) answering.Notify();
                        go.WaitForNotification();
                        return DraftReply();
                      }));
  GenerationRequest request;
  std::mt19937 random(5);
  for (int i = 0; i < 41; ++i) request.prompt.push_back(random() % kFakeVocab);
  request.max_tokens = 30;
  auto first = std::make_shared<Recorder>(), second = std::make_shared<Recorder>();
  first->cancel_after = 20;
  ASSERT_TRUE(scheduler.Submit(request, first).ok());
  answering.WaitForNotification();
  ASSERT_TRUE(scheduler.Submit(request, second).ok());
  go.Notify();
  first->done.WaitForNotification();
  second->done.WaitForNotification();
  EXPECT_EQ(first->status.code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(second->status.ok());
  EXPECT_EQ(second->stats.cached_prompt_tokens, 40u);
  EXPECT_EQ(RunPrefixRequest(scheduler, {})->stats.cached_prompt_tokens, 40u);
  EXPECT_TRUE(scheduler.WaitIdle(absl::Seconds(10)));
  EXPECT_EQ(PagesNotInUse(engine), engine.info().kv_pages_total);
}

// Requests that begin alike and come at once: one computes, the others follow.
TEST(Scheduler, PromptsThatComeTogetherAreComputedOnce) {
  for (const int chunk : {8, 64, 256}) {
    FakeEngine engine;
    FakeTokenizer tokenizer;
    SchedulerOptions options = FixedBudget();
    options.prefill_chunk = chunk;
    absl::Notification drafting, go;
    Scheduler scheduler(options, engine, tokenizer, Scripted([&](const DraftQuery&) {
                          if (!drafting.HasBeenNotified()) drafting.Notify();
                          go.WaitForNotification();
                          return DraftReply();
                        }));
    const auto submit = [&](int unlike, const std::string& tenant) {
      GenerationRequest request;
      std::mt19937 random(5);
      for (int i = 0; i < 41; ++i) request.prompt.push_back(random() % kFakeVocab);
      for (int i = 0; i < unlike; ++i) request.prompt.push_back(unlike);
      request.max_tokens = 3;
      request.tenant = tenant;
      auto sink = std::make_shared<Recorder>();
      EXPECT_TRUE(scheduler.Submit(request, sink).ok());
      return sink;
    };
    // Holds the scheduler until all wait.
    const auto holder = submit(1, "another");
    drafting.WaitForNotification();
    std::vector<std::shared_ptr<Recorder>> sinks;
    for (int i = 0; i < 8; ++i) sinks.push_back(submit(30 - i, "a"));
    // The leader goes away, and somebody else leads.
    if (chunk == 8) sinks[0]->cancel = true;
    go.Notify();
    int computed = 0;
    for (const auto& sink : sinks) {
      sink->done.WaitForNotification();
      if (sink->cancel) continue;
      ASSERT_TRUE(sink->status.ok());
      EXPECT_EQ(sink->tokens.size(), 3u);
      const uint32_t cached = sink->stats.cached_prompt_tokens;
      EXPECT_TRUE(cached == 0 || cached == 40) << cached;
      computed += cached == 0;
    }
    EXPECT_EQ(computed, 1);
  }
}

// Pages of earlier requests fill the cache; each new one has room nevertheless, at once.
TEST(Scheduler, KeptPagesMakeNobodyWait) {
  FakeEngine engine(/*pages=*/32);
  FakeTokenizer tokenizer;
  Scheduler scheduler(FixedBudget(), engine, tokenizer, NewNoDraftSource());
  for (int i = 0; i < 20; ++i) {
    std::vector<std::shared_ptr<Recorder>> sinks;
    for (int k = 0; k < 2; ++k) {
      GenerationRequest request;
      request.prompt.assign(40 + i, static_cast<TokenId>(2 * i + k));
      request.max_tokens = 2;
      sinks.push_back(std::make_shared<Recorder>());
      ASSERT_TRUE(scheduler.Submit(request, sinks.back()).ok());
    }
    for (const auto& sink : sinks) {
      sink->done.WaitForNotification();
      EXPECT_TRUE(sink->status.ok()) << sink->status;
    }
    EXPECT_TRUE(scheduler.WaitIdle(absl::Seconds(10)));
    EXPECT_EQ(PagesNotInUse(engine), 32);
  }
  EXPECT_EQ(scheduler.preemptions(), 0u);
  EXPECT_GT(engine.kv_pages_kept(), 10);
}

WaitingRequest Waiting(const std::string& tenant, int number,
                       std::shared_ptr<Recorder> sink = std::make_shared<Recorder>()) {
  WaitingRequest waiting;
  waiting.request.tenant = tenant;
  waiting.request.max_tokens = number;
  waiting.sink = std::move(sink);
  return waiting;
}

TEST(WaitingQueue, TenantsTakeTurns) {
  WaitingQueue queue;
  int number = 0;
  for (const char* tenant : {"crowd", "crowd", "crowd", "crowd", "one", "crowd", "two", "one"}) {
    queue.Push(Waiting(tenant, number++));
  }
  WaitingQueue::ActiveCounts active = {{"two", 1}};
  std::vector<int64_t> order;
  while (!queue.empty()) {
    const std::string next = queue.Next(active).request.tenant;
    const WaitingRequest waiting = queue.Pop(active);
    EXPECT_EQ(waiting.request.tenant, next);
    ++active[next];
    order.push_back(waiting.request.max_tokens);
  }
  EXPECT_EQ(order, (std::vector<int64_t>{0, 4, 1, 6, 7, 2, 3, 5}));
}

TEST(WaitingQueue, TheNewestOfTheMostMakesWay) {
  WaitingQueue queue;
  EXPECT_FALSE(queue.MakesWayFor("one"));
  queue.Push(Waiting("crowd", 0));
  EXPECT_FALSE(queue.MakesWayFor("one"));
  queue.Push(Waiting("crowd", 1));
  EXPECT_TRUE(queue.MakesWayFor("one"));
  EXPECT_FALSE(queue.MakesWayFor("crowd"));
  queue.Push(Waiting("one", 2));
  EXPECT_FALSE(queue.MakesWayFor("one"));
  EXPECT_TRUE(queue.MakesWayFor("two"));
  EXPECT_EQ(queue.TakeNewestOfMost().request.max_tokens, 1);
  EXPECT_EQ(queue.size(), 2u);
  EXPECT_FALSE(queue.MakesWayFor("two"));
  queue.TakeNewestOfMost();
  queue.TakeNewestOfMost();
  EXPECT_TRUE(queue.empty());
}

TEST(WaitingQueue, GivesUpWhatIsCancelled) {
  WaitingQueue queue;
  auto gone = std::make_shared<Recorder>();
  queue.Push(Waiting("a", 0, gone));
  queue.Push(Waiting("a", 1));
  queue.Push(Waiting("b", 2, gone));
  EXPECT_TRUE(queue.TakeCancelled().empty());
  gone->cancel = true;
  EXPECT_EQ(queue.TakeCancelled().size(), 2u);
  EXPECT_EQ(queue.size(), 1u);
  EXPECT_EQ(queue.Next({}).request.max_tokens, 1);
  EXPECT_EQ(queue.TakeAll().size(), 1u);
  EXPECT_TRUE(queue.empty());
}

}  // namespace
}  // namespace strata::verify
