#include "common/trace/context.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <utility>
#include <vector>

namespace strata::trace {
namespace {

TEST(TraceContext, ReadsWhatTheStandardAllows) {
  const std::string trace = "4bf92f3577b34da6a3ce929d0e0e4736";
  const std::string parent = "00f067aa0ba902b7";
  const std::string good = "00-" + trace + "-" + parent + "-";
  for (const auto& [text, sampled] :
       {std::pair(good + "00", false), std::pair(good + "01", true), std::pair(good + "fe", false),
        std::pair(good + "a3", true), std::pair("cc" + good.substr(2) + "01", true),
        std::pair("cc" + good.substr(2) + "01-what", true)}) {
    const auto read = ParseTraceparent(text);
    ASSERT_TRUE(read.has_value()) << text;
    EXPECT_EQ(ToHex(read->trace_id), trace);
    EXPECT_EQ(ToHex(read->span_id), parent);
    EXPECT_EQ(read->sampled, sampled) << text;
  }
  std::vector<std::string> wrong = {"",
                                    "00",
                                    good,
                                    good + "0",
                                    "cc" + good.substr(2) + "01-" + std::string(300, 'x'),
                                    good + "0g",
                                    good + "01 ",
                                    good + "01-x",
                                    "ff" + good.substr(2) + "01",
                                    "cc" + good.substr(2) + "01x",
                                    "0-" + trace + "-" + parent + "-001",
                                    "00-" + std::string(32, '0') + "-" + parent + "-01",
                                    "00-" + trace + "-" + std::string(16, '0') + "-01",
                                    "00-" + trace + "_" + parent + "-01"};
  for (size_t i = 0; i < good.size(); ++i) {
    for (const char c : {'F', 'g', '\0', '\n', '\xff', '"'}) {
      std::string text = good + "01";
      text[i] = c;
      wrong.push_back(text);
    }
  }
  for (const std::string& text : wrong) EXPECT_FALSE(ParseTraceparent(text).has_value()) << text;
}

TEST(TraceContext, IsWrittenAsItIsRead) {
  for (const bool sampled : {false, true}) {
    const Context context = {NewTraceId(), NewSpanId(), sampled};
    const std::string text = ToTraceparent(context);
    EXPECT_EQ(text.size(), 55u);
    EXPECT_EQ(ParseTraceparent(text), context) << text;
  }
}

TEST(TraceContext, IdsDiffer) {
  std::set<TraceId> traces;
  std::set<SpanId> spans;
  for (int i = 0; i < 1000; ++i) {
    traces.insert(NewTraceId());
    spans.insert(NewSpanId());
  }
  EXPECT_EQ(traces.size(), 1000u);
  EXPECT_EQ(spans.size(), 1000u);
  EXPECT_EQ(traces.count(TraceId{}), 0u);
  EXPECT_EQ(spans.count(SpanId{}), 0u);
}

TEST(TraceContext, ChanceKeepsItsProbability) {
  int hits = 0;
  for (int i = 0; i < 10000; ++i) {
    EXPECT_FALSE(Chance(0));
    EXPECT_TRUE(Chance(1));
    hits += Chance(0.25) ? 1 : 0;
  }
  EXPECT_NEAR(hits, 2500, 300);
}

}  // namespace
}  // namespace strata::trace
