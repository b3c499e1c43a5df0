#ifndef STRATA_COMMON_RPC_BEARER_H_
#define STRATA_COMMON_RPC_BEARER_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/client_interceptor.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/auth/token_table.h"

namespace strata::rpc {

// Who makes the call, by its "authorization: Bearer TOKEN" (RFC 6750). UNAUTHENTICATED if there is
// none, if it is not in `tokens`, or if it expired before `now`; the sentence tells apart only what
// the caller must know: send one, get a new one, or none of these will do.
absl::StatusOr<auth::Caller> Authenticate(const grpc::ServerContextBase& context,
                                          const auth::TokenTable& tokens, absl::Time now);

// INVALID_ARGUMENT, without the token, if it cannot be sent: empty, over 4 KiB, or with characters
// that a header does not carry.
absl::Status CheckBearerToken(const std::string& token);

// Sends `token` with every call of the channel that it is given to. Other than gRPC's call
// credentials it does so without TLS too: whoever makes the channel sees to it that it may.
std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface> NewBearerSender(
    const std::string& token);

}  // namespace strata::rpc

#endif  // STRATA_COMMON_RPC_BEARER_H_
