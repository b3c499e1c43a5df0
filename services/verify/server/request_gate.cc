#include "services/verify/server/request_gate.h"

#include "absl/time/clock.h"
#include "common/rpc/bearer.h"

namespace strata::verify {

absl::Status RequestGate::Identify(const grpc::ServerContextBase& context) {
  return rpc::Authenticate(context, *tokens_->Get(), absl::Now()).status();
}

absl::StatusOr<RequestGate::Pass> RequestGate::Admit(const grpc::ServerContextBase& context,
                                                     const std::string& tenant) {
  auto caller = rpc::Authenticate(context, *tokens_->Get(), absl::Now());
  if (!caller.ok()) return caller.status();
  if (!tenant.empty() && tenant != caller->tenant) {
    return absl::PermissionDeniedError(
        "the request names a tenant that its token does not speak for; leave the field empty");
  }
  auto quota = quotas_.Begin(caller->tenant, caller->quotas);
  if (!quota.ok()) return quota.status();
  return Pass{std::move(caller->tenant), *std::move(quota)};
}

}  // namespace strata::verify
