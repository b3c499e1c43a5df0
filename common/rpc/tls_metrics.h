#ifndef STRATA_COMMON_RPC_TLS_METRICS_H_
#define STRATA_COMMON_RPC_TLS_METRICS_H_

#include <string>

#include "absl/time/time.h"
#include "common/metrics/page.h"

namespace strata::rpc {

// Tells Prometheus, as PREFIX_tls_certificate_expiry_timestamp, when the certificate for `use`
// ("server", "draft_client") expires. Nothing without one, whose expiry is the infinite future.
void CollectCertificate(const std::string& prefix, const std::string& use, absl::Time expiry,
                        metrics::Page& page);

}  // namespace strata::rpc

#endif  // STRATA_COMMON_RPC_TLS_METRICS_H_
