#include "services/draft/server/draft_spans.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "common/base/steady_clock.h"
#include "tests/common/trace/trace_file.h"

namespace strata::draft {
namespace {

using trace::testing::AttributesOf;
using trace::testing::EndOf;
using trace::testing::StartOf;
using trace::testing::TraceFile;

constexpr char kTraceId[] = "4bf92f3577b34da6a3ce929d0e0e4736";
constexpr char kParent[] = "00f067aa0ba902b7";

std::string Traceparent(const std::string& flags) {
  return std::string("00-") + kTraceId + "-" + kParent + "-" + flags;
}

TEST(DraftSpans, AreTheChildrenOfWhoAsks) {
  TraceFile file;
  v1::DraftRequest request;
  request.add_sequences()->set_node_budget(9);
  request.mutable_sequences(0)->set_traceparent(Traceparent("01"));
  std::vector<SequenceAnswer> answers(1);
  answers[0].tree.Add(7, -1, 0.5f, TierKind::kContext);
  answers[0].tree.Add(8, 0, 0.5f, TierKind::kCorpus);
  answers[0].tree.Add(9, 0, 0.5f, TierKind::kCorpus);
  const absl::Time received = SteadyNow() - absl::Seconds(2);
  const int64_t now = absl::GetCurrentTimeNanos();
  RecordDraftSpans(*file.tracer(), request, answers, received);
  const auto spans = file.Spans();
  ASSERT_EQ(spans.size(), 1u);
  EXPECT_EQ(spans[0]["name"], "draft");
  EXPECT_EQ(spans[0]["kind"], 2);
  EXPECT_EQ(spans[0]["traceId"], kTraceId);
  EXPECT_EQ(spans[0]["parentSpanId"], kParent);
  EXPECT_NE(spans[0]["spanId"], kParent);
  // Two seconds by the machine's clock, which no test can hold still.
  EXPECT_GE(EndOf(spans[0]) - StartOf(spans[0]), 2'000'000'000);
  EXPECT_NEAR(static_cast<double>(EndOf(spans[0]) - now), 0, 60e9);
  auto attributes = AttributesOf(spans[0]);
  EXPECT_EQ(attributes.size(), 6u);
  EXPECT_EQ(attributes["strata.status"], "ok");
  EXPECT_EQ(attributes["strata.node_budget"], 9);
  EXPECT_EQ(attributes["strata.batch_sequences"], 1);
  EXPECT_EQ(attributes["strata.nodes"], 3);
  EXPECT_EQ(attributes["strata.nodes.context"], 1);
  EXPECT_EQ(attributes["strata.nodes.corpus"], 2);
}

TEST(DraftSpans, OnlySequencesThatAreTracedHaveOne) {
  TraceFile file;
  v1::DraftRequest request;
  const std::vector<std::string> traceparents = {
      "",
      Traceparent("00"),
      Traceparent("01"),
      "nonsense",
      Traceparent("01") + "x",
      std::string("\xff\x00\x80", 3),
      std::string(100000, '0'),
      "00-" + std::string(32, '0') + "-" + kParent + "-01"};
  for (const std::string& traceparent : traceparents) {
    request.add_sequences()->set_traceparent(traceparent);
  }
  std::vector<SequenceAnswer> answers(traceparents.size());
  answers[2].status = SequenceStatus::kUnknown;
  RecordDraftSpans(*file.tracer(), request, answers, absl::Now());
  const auto spans = file.Spans();
  ASSERT_EQ(spans.size(), 1u);
  EXPECT_EQ(AttributesOf(spans[0])["strata.status"], "unknown");
  EXPECT_EQ(AttributesOf(spans[0])["strata.nodes"], 0);
}

}  // namespace
}  // namespace strata::draft
