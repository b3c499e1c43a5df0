// The spans that a scheduler records of a request, on the fake engine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "common/base/steady_clock.h"
#include "services/verify/scheduler/scheduler.h"
#include "tests/common/trace/trace_file.h"
#include "tests/verify/fake_engine.h"

namespace strata::verify {
namespace {

using trace::testing::AttributesOf;
using trace::testing::ChildOf;
using trace::testing::EndOf;
using trace::testing::Named;
using trace::testing::StartOf;
using trace::testing::TraceFile;
using Spans = std::vector<nlohmann::json>;

class Sink final : public GenerationSink {
 public:
  void OnChunk(GenerationChunk chunk) override { tokens += chunk.tokens.size(); }
  void OnFinish(const absl::Status& s, FinishReason, const GenerationStats& st) override {
    status = s;
    stats = st;
    done.Notify();
  }
  bool cancelled() const override { return tokens >= cancel_after; }

  // Read after `done`.
  size_t tokens = 0;
  absl::Status status;
  GenerationStats stats;
  absl::Notification done;
  size_t cancel_after = SIZE_MAX;
};

// Drafts one token that is mostly wrong, and keeps the spans it was told of.
class Source final : public DraftSource {
 public:
  explicit Source(bool throws = false) : throws_(throws) {}
  const char* mode() const override { return "test"; }
  bool available() const override { return true; }
  void Ask(std::span<const DraftQuery> queries) override {
    queries_.assign(queries.begin(), queries.end());
    for (const DraftQuery& query : queries) {
      if (query.trace) told.push_back(*query.trace);
      untold += query.trace ? 0 : 1;
    }
  }
  void Take(std::vector<DraftReply>& replies) override {
    replies.clear();
    for (const DraftQuery& query : queries_) {
      replies.emplace_back().tree.Add(query.tokens.back(), -1, 0.5f, TierKind::kContext);
    }
    absl::SleepFor(absl::Microseconds(50));
    if (throws_) throw std::runtime_error("drafting breaks");
  }
  void Close(uint64_t, std::span<const TokenId>) override {}

  // Read when all requests are done.
  std::vector<trace::Context> told;
  int untold = 0;

 private:
  const bool throws_;
  std::vector<DraftQuery> queries_;
};

GenerationRequest Request(TokenId first, int64_t prompt, int64_t max_tokens) {
  GenerationRequest request;
  request.prompt.resize(static_cast<size_t>(prompt), first);
  request.max_tokens = max_tokens;
  return request;
}

class SchedulerTrace : public ::testing::Test {
 protected:
  void Start(SchedulerOptions options = {}, bool throws = false) {
    auto source = std::make_unique<Source>(throws);
    source_ = source.get();
    options.measured_budget = false;
    scheduler_ = std::make_unique<Scheduler>(options, engine_, tokenizer_, std::move(source));
  }
  trace::Scope NewScope() {
    return {file_.tracer(), {trace::NewTraceId(), trace::NewSpanId(), /*sampled=*/true}};
  }
  std::shared_ptr<Sink> Submit(GenerationRequest request, size_t cancel_after = SIZE_MAX) {
    auto sink = std::make_shared<Sink>();
    sink->cancel_after = cancel_after;
    EXPECT_TRUE(scheduler_->Submit(std::move(request), sink).ok());
    return sink;
  }

  FakeEngine engine_;
  FakeTokenizer tokenizer_;
  TraceFile file_;
  std::unique_ptr<Scheduler> scheduler_;
  Source* source_ = nullptr;
};

void ExpectWithin(const nlohmann::json& inner, const nlohmann::json& outer) {
  EXPECT_LE(StartOf(outer), StartOf(inner)) << inner << outer;
  EXPECT_LE(StartOf(inner), EndOf(inner)) << inner;
  EXPECT_LE(EndOf(inner), EndOf(outer)) << inner << outer;
}

// What every trace of a request that came to its end must be like.
void Check(const Spans& all, const trace::Scope& scope, const GenerationStats& stats) {
  Spans spans;
  std::set<std::string> ids;
  for (const nlohmann::json& span : all) {
    if (span["traceId"] == trace::ToHex(scope.context.trace_id)) spans.push_back(span);
    EXPECT_TRUE(ids.insert(span["spanId"].get<std::string>()).second);
  }
  const std::string root = trace::ToHex(scope.context.span_id);
  const auto queue = ChildOf(spans, root, "queue");
  const auto prefill = ChildOf(spans, root, "prefill");
  EXPECT_LE(EndOf(queue), StartOf(prefill));
  EXPECT_EQ(AttributesOf(prefill)["strata.rows"], stats.prompt_tokens - stats.cached_prompt_tokens);
  int64_t passes = 0;
  for (const auto& forward : Named(spans, "forward")) {
    if (forward["parentSpanId"] != prefill["spanId"]) continue;
    ++passes;
    ExpectWithin(forward, prefill);
  }
  EXPECT_EQ(AttributesOf(prefill)["strata.passes"], passes);
  const Spans steps = Named(spans, "step");
  ASSERT_EQ(steps.size(), stats.steps);
  int64_t tokens = 1, drafted = 0, accepted = 0;
  int64_t last = EndOf(prefill);
  for (const auto& step : steps) {
    EXPECT_EQ(step["parentSpanId"], root);
    EXPECT_LE(last, StartOf(step));
    last = EndOf(step);
    const auto forward = ChildOf(spans, step["spanId"], "forward");
    ExpectWithin(forward, step);
    for (const auto& draft : Named(spans, "draft")) {
      if (draft["parentSpanId"] != step["spanId"]) continue;
      ExpectWithin(draft, step);
      EXPECT_EQ(draft["kind"], 3);
      EXPECT_LE(EndOf(draft), StartOf(forward));
    }
    auto attributes = AttributesOf(step);
    tokens += attributes["strata.tokens"].get<int64_t>();
    drafted += attributes["strata.drafted"].get<int64_t>();
    accepted += attributes["strata.accepted"].get<int64_t>();
    EXPECT_EQ(AttributesOf(forward)["strata.rows"],
              1 + attributes["strata.drafted"].get<int64_t>());
  }
  EXPECT_EQ(tokens, stats.output_tokens);
  EXPECT_EQ(drafted, static_cast<int64_t>(stats.drafted));
  EXPECT_EQ(accepted, static_cast<int64_t>(stats.accepted));
  // Nothing but these.
  EXPECT_EQ(spans.size(), 2 + passes + 2 * steps.size() + Named(spans, "draft").size());
}

TEST_F(SchedulerTrace, SpansSayWhatHappened) {
  SchedulerOptions options;
  options.prefill_chunk = 16;
  Start(options);
  const trace::Scope scope = NewScope();
  GenerationRequest request = Request(5, 50, 30);
  request.trace = scope;
  const auto sink = Submit(std::move(request));
  sink->done.WaitForNotification();
  scheduler_.reset();
  const Spans spans = file_.Spans();
  Check(spans, scope, sink->stats);
  EXPECT_GT(sink->stats.drafted, 0u);
  EXPECT_GE(AttributesOf(Named(spans, "prefill").at(0))["strata.passes"], 4);
}

TEST_F(SchedulerTrace, TheSourceIsToldTheSpanThatWaits) {
  Start();
  GenerationRequest request = Request(5, 4, 20);
  const trace::Scope scope = request.trace = NewScope();
  const auto sink = Submit(std::move(request));
  sink->done.WaitForNotification();
  // Idle, so that nobody writes them.
  ASSERT_TRUE(scheduler_->WaitIdle(absl::Seconds(30)));
  const std::vector<trace::Context> told = source_->told;
  EXPECT_EQ(source_->untold, 0);
  scheduler_.reset();
  const Spans drafts = Named(file_.Spans(), "draft");
  ASSERT_EQ(drafts.size(), told.size());
  ASSERT_GT(told.size(), 5u);
  for (size_t i = 0; i < told.size(); ++i) {
    EXPECT_EQ(told[i].trace_id, scope.context.trace_id);
    EXPECT_TRUE(told[i].sampled);
    EXPECT_EQ(drafts[i]["spanId"], trace::ToHex(told[i].span_id));
    auto attributes = AttributesOf(drafts[i]);
    EXPECT_EQ(attributes["strata.nodes"], 1);
    EXPECT_EQ(attributes["strata.missed"], false);
    EXPECT_GE(attributes["strata.wait_seconds"], 50e-6);
  }
}

TEST_F(SchedulerTrace, RequestsThatAreNotTracedRecordNothing) {
  Start();
  const auto traced = [&] {
    GenerationRequest request = Request(5, 20, 40);
    request.trace = NewScope();
    const auto scope = request.trace;
    return std::pair(scope, Submit(std::move(request)));
  }();
  const auto plain = Submit(Request(9, 20, 40));
  traced.second->done.WaitForNotification();
  plain->done.WaitForNotification();
  ASSERT_TRUE(scheduler_->WaitIdle(absl::Seconds(30)));
  EXPECT_GT(source_->untold, 0);
  scheduler_.reset();
  const Spans spans = file_.Spans();
  for (const auto& span : spans) {
    EXPECT_EQ(span["traceId"], trace::ToHex(traced.first.context.trace_id));
  }
  Check(spans, traced.first, traced.second->stats);
}

TEST_F(SchedulerTrace, TwoTracesOfOneBatchStayApart) {
  Start();
  std::vector<std::pair<trace::Scope, std::shared_ptr<Sink>>> requests;
  for (TokenId first = 1; first <= 4; ++first) {
    GenerationRequest request = Request(first, 10 + first, 30);
    request.trace = NewScope();
    const trace::Scope scope = request.trace;
    requests.emplace_back(scope, Submit(std::move(request)));
  }
  for (const auto& [scope, sink] : requests) sink->done.WaitForNotification();
  scheduler_.reset();
  const Spans spans = file_.Spans();
  for (const auto& [scope, sink] : requests) Check(spans, scope, sink->stats);
}

TEST_F(SchedulerTrace, ADraftThatFailsIsAMissInTheTrace) {
  Start({}, /*throws=*/true);
  GenerationRequest request = Request(5, 4, 10);
  const trace::Scope scope = request.trace = NewScope();
  const auto sink = Submit(std::move(request));
  sink->done.WaitForNotification();
  EXPECT_TRUE(sink->status.ok()) << sink->status;
  scheduler_.reset();
  const Spans spans = file_.Spans();
  Check(spans, scope, sink->stats);
  ASSERT_FALSE(Named(spans, "draft").empty());
  for (const auto& draft : Named(spans, "draft")) {
    EXPECT_EQ(AttributesOf(draft)["strata.missed"], true);
  }
}

TEST_F(SchedulerTrace, WhatIsCancelledEndsItsSpans) {
  Start();
  GenerationRequest request = Request(5, 4, 1000);
  request.trace = NewScope();
  const auto sink = Submit(std::move(request), /*cancel_after=*/10);
  sink->done.WaitForNotification();
  EXPECT_TRUE(absl::IsCancelled(sink->status));
  scheduler_.reset();
  const Spans spans = file_.Spans();
  // Every span's parent but the request's own is there.
  std::set<std::string> ids;
  for (const auto& span : spans) ids.insert(span["spanId"]);
  int orphans = 0;
  for (const auto& span : spans) orphans += ids.count(span["parentSpanId"]) == 0 ? 1 : 0;
  EXPECT_EQ(orphans, static_cast<int>(Named(spans, "queue").size() + Named(spans, "step").size() +
                                      Named(spans, "prefill").size()));
  // The last had asked for its drafts already, and came to no pass.
  EXPECT_EQ(Named(spans, "step").size(), sink->stats.steps + 1);
  EXPECT_EQ(Named(spans, "draft").size(), sink->stats.steps + 1);
}

TEST(SequenceTrace, AStepBeginsWithAQuestionThatIsAskedAheadOfIt) {
  TraceFile file;
  const trace::Scope scope = {file.tracer(),
                              {trace::NewTraceId(), trace::NewSpanId(), /*sampled=*/true}};
  SequenceTrace sequence(scope, SteadyNow());
  ASSERT_TRUE(sequence.OnAsk(8).has_value());
  absl::SleepFor(absl::Milliseconds(300));
  SequenceTrace::Pass pass;
  pass.step_start = SteadyNow();
  sequence.OnDraft(/*wait_start=*/pass.step_start, DraftReply());
  pass.forward_start = pass.forward_end = SteadyNow();
  sequence.OnPass(pass);
  const Spans spans = file.Spans();
  const auto step = ChildOf(spans, trace::ToHex(scope.context.span_id), "step");
  const auto draft = ChildOf(spans, step["spanId"], "draft");
  ExpectWithin(draft, step);
  // The service had the time; the step did not stand still for it.
  EXPECT_GE(EndOf(draft) - StartOf(draft), 300'000'000);
  EXPECT_LT(AttributesOf(draft)["strata.wait_seconds"], 0.3);
}

TEST(SequenceTrace, WithoutATracerTheSourceIsToldTheRequestsSpan) {
  const trace::Context request = {trace::NewTraceId(), trace::NewSpanId(), /*sampled=*/true};
  EXPECT_EQ(SequenceTrace({nullptr, request}, SteadyNow()).OnAsk(8), request);
  EXPECT_EQ(SequenceTrace({}, SteadyNow()).OnAsk(8), std::nullopt);
}

}  // namespace
}  // namespace strata::verify
