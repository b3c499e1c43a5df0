#include "services/verify/server/request_tracing.h"

#include <openssl/sha.h>

#include "absl/strings/escaping.h"

namespace strata::verify {

trace::Scope RequestTracing::Begin(const std::optional<trace::Context>& client) const {
  if (tracer == nullptr) {
    return client.has_value() && client->sampled ? trace::Scope{nullptr, *client} : trace::Scope();
  }
  if (!(client.has_value() ? client->sampled : trace::Chance(sample))) return {};
  return {tracer,
          {client.has_value() ? client->trace_id : trace::NewTraceId(), trace::NewSpanId(),
           /*sampled=*/true}};
}

std::string TenantHash(const std::string& tenant) {
  if (tenant.empty()) return "none";
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(tenant.data()), tenant.size(),
         reinterpret_cast<unsigned char*>(digest.data()));
  return absl::BytesToHexString(digest.substr(0, SHA256_DIGEST_LENGTH / 2));
}

}  // namespace strata::verify
