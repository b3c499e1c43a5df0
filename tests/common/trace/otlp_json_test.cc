#include "common/trace/otlp_json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace strata::trace {
namespace {

Span Example() {
  Span span;
  span.name = "step";
  span.kind = SpanKind::kClient;
  span.context.trace_id = {0x4b, 0xf9, 0x2f};
  span.context.span_id = {0, 0xf0, 0x67};
  span.context.sampled = true;
  span.parent_id = {0xff};
  span.start = absl::FromUnixNanos(1'700'000'000'123'456'789);
  span.end = span.start + absl::Nanoseconds(5);
  span.Add("count", int64_t{1} << 60);
  span.Add("ratio", 0.5);
  span.AddFlag("flag", true);
  span.Add("text", std::string("a \"b\"\n\xff"));
  return span;
}

// Field by field, as opentelemetry/proto/trace/v1/trace.proto and the JSON mapping of OTLP have it.
TEST(OtlpJson, FollowsTheFormat) {
  const std::string line = ToOtlpJson({"svc", "1.2", "host:1"}, std::vector<Span>{Example()});
  EXPECT_EQ(line.find('\n'), std::string::npos);
  const nlohmann::json request = nlohmann::json::parse(line);
  ASSERT_EQ(request.at("resourceSpans").size(), 1u);
  const nlohmann::json& resource = request["resourceSpans"][0];
  EXPECT_EQ(resource.at("resource").at("attributes"), nlohmann::json::parse(R"([
      {"key": "service.name", "value": {"stringValue": "svc"}},
      {"key": "service.version", "value": {"stringValue": "1.2"}},
      {"key": "service.instance.id", "value": {"stringValue": "host:1"}}])"));
  ASSERT_EQ(resource.at("scopeSpans").size(), 1u);
  EXPECT_EQ(resource["scopeSpans"][0].at("scope").at("name"), "strata");
  const nlohmann::json expected = nlohmann::json::parse(R"([{
      "traceId": "4bf92f00000000000000000000000000", "spanId": "00f0670000000000",
      "parentSpanId": "ff00000000000000", "flags": 1, "name": "step", "kind": 3,
      "startTimeUnixNano": "1700000000123456789", "endTimeUnixNano": "1700000000123456794",
      "attributes": [{"key": "count", "value": {"intValue": "1152921504606846976"}},
                     {"key": "ratio", "value": {"doubleValue": 0.5}},
                     {"key": "flag", "value": {"boolValue": true}},
                     {"key": "text", "value": {"stringValue": "a \"b\"\n\ufffd"}}],
      "status": {}}])");
  EXPECT_EQ(resource["scopeSpans"][0].at("spans"), expected);
}

TEST(OtlpJson, LeavesOutWhatIsNotThere) {
  Span span = Example();
  span.parent_id = {};
  span.attributes.clear();
  span.failed = true;
  // A clock that was set back.
  span.end = span.start - absl::Seconds(1);
  const nlohmann::json request =
      nlohmann::json::parse(ToOtlpJson({"svc", "1", "i"}, std::vector<Span>{span, Example()}));
  const nlohmann::json& spans = request["resourceSpans"][0]["scopeSpans"][0]["spans"];
  ASSERT_EQ(spans.size(), 2u);
  EXPECT_FALSE(spans[0].contains("parentSpanId"));
  EXPECT_FALSE(spans[0].contains("attributes"));
  EXPECT_EQ(spans[0]["status"]["code"], 2);
  EXPECT_EQ(spans[0]["endTimeUnixNano"], spans[0]["startTimeUnixNano"]);
}

}  // namespace
}  // namespace strata::trace
