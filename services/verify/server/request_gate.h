#ifndef STRATA_SERVICES_VERIFY_SERVER_REQUEST_GATE_H_
#define STRATA_SERVICES_VERIFY_SERVER_REQUEST_GATE_H_

#include <grpcpp/server_context.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/auth/tenant_quotas.h"
#include "common/auth/token_table.h"

namespace strata::verify {

// Who may call, as which tenant, and how often. Thread-safe.
class RequestGate {
 public:
  explicit RequestGate(std::unique_ptr<auth::ReloadingTokens> tokens)
      : tokens_(std::move(tokens)) {}

  // A call that was let in. The request ends with the object.
  struct Pass {
    std::string tenant;
    auth::TenantQuotas::Request quota;
  };

  // For methods that cost little: UNAUTHENTICATED unless the call has a good token.
  absl::Status Identify(const grpc::ServerContextBase& context);
  // For the others. Besides PERMISSION_DENIED if `tenant`, what the client wrote, is neither empty
  // nor the token's, and RESOURCE_EXHAUSTED over a quota.
  absl::StatusOr<Pass> Admit(const grpc::ServerContextBase& context, const std::string& tenant);

 private:
  const std::unique_ptr<auth::ReloadingTokens> tokens_;
  auth::TenantQuotas quotas_;
};

}  // namespace strata::verify

#endif  // STRATA_SERVICES_VERIFY_SERVER_REQUEST_GATE_H_
