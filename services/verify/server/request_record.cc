#include "services/verify/server/request_record.h"

#include <spdlog/spdlog.h>

#include <cstdint>
#include <exception>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "common/base/steady_clock.h"
#include "common/log/log.h"
#include "services/verify/server/request_tracing.h"

namespace strata::verify {
namespace {

constexpr std::array<const char*, kStatusCodes> kStatusNames = {
    "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
    "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED"};

const char* ReasonName(FinishReason reason) {
  switch (reason) {
    case FinishReason::kEos:
      return "eos";
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kNone:
      break;
  }
  return "none";
}

size_t CodeOf(const grpc::Status& status) {
  const auto code = static_cast<size_t>(status.error_code());
  return code < kStatusCodes ? code : static_cast<size_t>(grpc::UNKNOWN);
}

// Whether a server's span with this status is an error, by OpenTelemetry's conventions for gRPC:
// what is the service's fault and not the caller's.
bool IsFault(grpc::StatusCode code) {
  switch (code) {
    case grpc::UNKNOWN:
    case grpc::DEADLINE_EXCEEDED:
    case grpc::UNIMPLEMENTED:
    case grpc::INTERNAL:
    case grpc::UNAVAILABLE:
    case grpc::DATA_LOSS:
      return true;
    default:
      return false;
  }
}

}  // namespace

const char* StatusName(size_t code) {
  return kStatusNames[code < kStatusCodes ? code : static_cast<size_t>(grpc::UNKNOWN)];
}

RequestRecord::RequestRecord(RequestCounters& counters, absl::Time start)
    : counters_(counters), start_(start) {
  counters_.in_flight.Add(1);
}

RequestRecord::~RequestRecord() {
  if (!ended_) End(grpc::Status(grpc::UNKNOWN, ""));
}

void RequestRecord::OnTokens() {
  if (first_token_seconds_.has_value()) return;
  first_token_seconds_ = absl::ToDoubleSeconds(SteadyNow() - start_);
  counters_.first_token_seconds.Observe(*first_token_seconds_);
}

void RequestRecord::set_stats(GenerationStats stats, FinishReason reason) {
  stats_ = std::move(stats);
  reason_ = reason;
}

void RequestRecord::End(const grpc::Status& status) noexcept {
  if (std::exchange(ended_, true)) return;
  const double seconds = absl::ToDoubleSeconds(SteadyNow() - start_);
  counters_.in_flight.Add(-1);
  counters_.by_status[CodeOf(status)].Add(1);
  counters_.seconds.Observe(seconds);
  try {
    if (scope_.on()) RecordSpan(status);
    Log(status, seconds);
  } catch (const std::exception&) {
    // Out of memory: the call is over all the same.
  }
}

void RequestRecord::RecordSpan(const grpc::Status& status) const {
  trace::Span span;
  span.name = "strata.generate";
  span.kind = trace::SpanKind::kServer;
  span.context = scope_.context;
  if (client_.has_value()) span.parent_id = client_->span_id;
  span.start = start_;
  span.end = SteadyNow();
  span.failed = IsFault(status.error_code());
  span.Add("strata.request_id", id_);
  span.Add("strata.tenant_hash", TenantHash(tenant_));
  span.Add("rpc.grpc.status_code", static_cast<int64_t>(CodeOf(status)));
  if (stats_.prompt_tokens > 0) {
    span.Add("strata.finish", std::string(ReasonName(reason_)));
    span.Add("strata.prompt_tokens", int64_t{stats_.prompt_tokens});
    span.Add("strata.cached_prompt_tokens", int64_t{stats_.cached_prompt_tokens});
    span.Add("strata.output_tokens", int64_t{stats_.output_tokens});
    span.Add("strata.steps", int64_t{stats_.steps});
    span.Add("strata.drafted", static_cast<int64_t>(stats_.drafted));
    span.Add("strata.accepted", static_cast<int64_t>(stats_.accepted));
    span.Add("strata.draft_misses", static_cast<int64_t>(stats_.draft_misses));
    span.Add("strata.preemptions", int64_t{stats_.preemptions});
  }
  scope_.tracer->Record(std::move(span));
}

void RequestRecord::Log(const grpc::Status& status, double seconds) const {
  if (!spdlog::should_log(spdlog::level::info)) return;
  std::vector<log::Field> fields;
  const auto text = [&](const char* key, std::string_view value) {
    fields.push_back({key, value});
  };
  const auto count = [&](const char* key, uint64_t value) {
    fields.push_back({key, static_cast<int64_t>(value)});
  };
  const auto number = [&](const char* key, double value) { fields.push_back({key, value}); };
  const auto duration = [&](const char* key, absl::Duration value) {
    number(key, absl::ToDoubleSeconds(value));
  };
  text("request_id", id_);
  std::string trace_id, parent_id, span_id;
  if (client_.has_value()) {
    parent_id = trace::ToHex(client_->span_id);
    text("trace_id", trace_id = trace::ToHex(client_->trace_id));
    text("parent_span_id", parent_id);
  }
  if (scope_.on()) {
    if (!client_.has_value()) text("trace_id", trace_id = trace::ToHex(scope_.context.trace_id));
    text("span_id", span_id = trace::ToHex(scope_.context.span_id));
  }
  text("outcome", StatusName(CodeOf(status)));
  number("seconds", seconds);
  // What is wrong with a request may quote it; what else goes wrong does not.
  const std::string message = status.error_message();
  if (!status.ok() && status.error_code() != grpc::INVALID_ARGUMENT) text("detail", message);
  if (stats_.prompt_tokens > 0) {
    text("finish", ReasonName(reason_));
    count("prompt_tokens", stats_.prompt_tokens);
    count("cached_prompt_tokens", stats_.cached_prompt_tokens);
    count("output_tokens", stats_.output_tokens);
    count("steps", stats_.steps);
    number("tokens_per_step",
           stats_.steps > 0 ? static_cast<double>(stats_.output_tokens) / stats_.steps : 0);
    count("drafted", stats_.drafted);
    count("accepted", stats_.accepted);
    count("draft_misses", stats_.draft_misses);
    count("preemptions", stats_.preemptions);
    number("first_token_seconds", first_token_seconds_.value_or(0));
    duration("prefill_seconds", stats_.prefill_time);
    duration("draft_seconds", stats_.draft_time);
    duration("verify_seconds", stats_.verify_time);
  }
  log::Event(spdlog::level::info, "request finished", fields);
}

}  // namespace strata::verify
