#include "common/trace/otlp_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"

namespace strata::trace {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kStatusError = 2;

// 64-bit integers are strings in the JSON form of protobuf, which OTLP follows in that.
Json ToJson(const Attribute& attribute) {
  struct ToValue {
    Json operator()(bool value) const { return {{"boolValue", value}}; }
    Json operator()(int64_t value) const { return {{"intValue", absl::StrCat(value)}}; }
    Json operator()(double value) const { return {{"doubleValue", value}}; }
    Json operator()(const std::string& value) const { return {{"stringValue", value}}; }
  };
  return {{"key", attribute.key}, {"value", std::visit(ToValue(), attribute.value)}};
}

std::string Nanoseconds(absl::Time time) {
  return absl::StrCat(std::max<int64_t>(0, absl::ToUnixNanos(time)));
}

Json ToJson(const Span& span) {
  Json json;
  json["traceId"] = ToHex(span.context.trace_id);
  json["spanId"] = ToHex(span.context.span_id);
  if (span.parent_id != SpanId{}) json["parentSpanId"] = ToHex(span.parent_id);
  // The W3C flags: sampled.
  json["flags"] = span.context.sampled ? 1 : 0;
  json["name"] = span.name;
  json["kind"] = static_cast<int>(span.kind);
  json["startTimeUnixNano"] = Nanoseconds(span.start);
  // A clock that was set back makes no span end before it begins.
  json["endTimeUnixNano"] = Nanoseconds(std::max(span.start, span.end));
  if (!span.attributes.empty()) {
    Json& attributes = json["attributes"] = Json::array();
    for (const Attribute& attribute : span.attributes) attributes.push_back(ToJson(attribute));
  }
  json["status"] = Json::object();
  if (span.failed) json["status"]["code"] = kStatusError;
  return json;
}

}  // namespace

std::string ToOtlpJson(const Resource& resource, std::span<const Span> spans) {
  Json about = Json::array();
  for (const Attribute& attribute :
       {Attribute{"service.name", resource.service_name},
        Attribute{"service.version", resource.service_version},
        Attribute{"service.instance.id", resource.service_instance_id}}) {
    about.push_back(ToJson(attribute));
  }
  Json list = Json::array();
  for (const Span& span : spans) list.push_back(ToJson(span));
  Json scope;
  scope["scope"] = {{"name", "strata"}, {"version", resource.service_version}};
  scope["spans"] = std::move(list);
  Json of_service;
  of_service["resource"]["attributes"] = std::move(about);
  of_service["scopeSpans"] = Json::array({std::move(scope)});
  Json request;
  request["resourceSpans"] = Json::array({std::move(of_service)});
  return request.dump(/*indent=*/-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

}  // namespace strata::trace
