#ifndef STRATA_SERVICES_VERIFY_SERVER_REQUEST_TRACING_H_
#define STRATA_SERVICES_VERIFY_SERVER_REQUEST_TRACING_H_

#include <optional>
#include <string>

#include "common/trace/tracer.h"

namespace strata::verify {

// Which requests are traced. Copies share a tracer; thread-safe.
struct RequestTracing {
  // Borrowed. Null: none.
  trace::Tracer* tracer = nullptr;
  // Share of the requests that come without a trace of their client's. One with such a trace is
  // traced if the client's says so.
  double sample = 0;

  // Where the spans of a request go, below one for all of it; off if it is not traced. Without a
  // tracer the client's sampled span is passed on, for who records spans behind this service.
  trace::Scope Begin(const std::optional<trace::Context>& client) const;
};

// Tells tenants apart in a trace without their names: the first half of the SHA-256, in hexadecimal
// digits. Whoever can guess a name can check the guess. "none" for the empty tenant.
std::string TenantHash(const std::string& tenant);

}  // namespace strata::verify

#endif  // STRATA_SERVICES_VERIFY_SERVER_REQUEST_TRACING_H_
