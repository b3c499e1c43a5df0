#ifndef STRATA_SERVICES_VERIFY_SERVER_REQUEST_RECORD_H_
#define STRATA_SERVICES_VERIFY_SERVER_REQUEST_RECORD_H_

#include <grpcpp/support/status.h>

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "common/metrics/counter.h"
#include "common/metrics/histogram.h"
#include "common/trace/tracer.h"
#include "services/verify/scheduler/generation.h"

namespace strata::verify {

// The status codes of gRPC, from 0 on.
inline constexpr size_t kStatusCodes = static_cast<size_t>(grpc::UNAUTHENTICATED) + 1;
// "OK", "CANCELLED", …; "UNKNOWN" for what is none.
const char* StatusName(size_t code);

// All calls of Generate so far. Thread-safe.
struct RequestCounters {
  std::array<metrics::Counter, kStatusCodes> by_status;
  // Of those with RESOURCE_EXHAUSTED, calls refused for their tenant's quota.
  metrics::Counter quota_refusals;
  metrics::Gauge in_flight;
  // Of calls that ended, whatever their status.
  metrics::SecondsHistogram seconds;
  // From a call's arrival to its first tokens.
  metrics::SecondsHistogram first_token_seconds;
};

// One call of Generate: counts it, logs a line about it and records its span when it ends, of
// figures alone, never of what prompt or answer say. Thread-compatible.
class RequestRecord {
 public:
  // `counters` is borrowed.
  RequestRecord(RequestCounters& counters, absl::Time start);
  // A call that did not get to End() ended with UNKNOWN.
  ~RequestRecord();
  RequestRecord(const RequestRecord&) = delete;
  RequestRecord& operator=(const RequestRecord&) = delete;

  void set_id(std::string id) { id_ = std::move(id); }
  // The client's span, if it told one, and where the request's own spans go.
  void set_trace(std::optional<trace::Context> client, const trace::Scope& scope) {
    client_ = client;
    scope_ = scope;
  }
  const trace::Scope& scope() const { return scope_; }
  void set_tenant(std::string tenant) { tenant_ = std::move(tenant); }
  // The first tokens are about to be sent. Later calls do nothing.
  void OnTokens();
  void set_stats(GenerationStats stats, FinishReason reason);
  // Never throws.
  void End(const grpc::Status& status) noexcept;

 private:
  void Log(const grpc::Status& status, double seconds) const;
  // The span `strata.generate`.
  void RecordSpan(const grpc::Status& status) const;

  RequestCounters& counters_;
  const absl::Time start_;
  std::string id_;
  std::string tenant_;
  std::optional<trace::Context> client_;
  trace::Scope scope_;
  std::optional<double> first_token_seconds_;
  GenerationStats stats_;
  FinishReason reason_ = FinishReason::kNone;
  bool ended_ = false;
};

}  // namespace strata::verify

#endif  // STRATA_SERVICES_VERIFY_SERVER_REQUEST_RECORD_H_
