#include "common/rpc/tls_metrics.h"

#include "absl/strings/str_cat.h"

namespace strata::rpc {

void CollectCertificate(const std::string& prefix, const std::string& use, absl::Time expiry,
                        metrics::Page& page) {
  if (expiry == absl::InfiniteFuture()) return;
  page.AddGauge(absl::StrCat(prefix, "_tls_certificate_expiry_timestamp"),
                "When the TLS certificate in use expires, in seconds since 1970.",
                absl::ToDoubleSeconds(expiry - absl::UnixEpoch()), {{"use", use}});
}

}  // namespace strata::rpc
