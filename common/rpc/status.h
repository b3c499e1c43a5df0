#ifndef STRATA_COMMON_RPC_STATUS_H_
#define STRATA_COMMON_RPC_STATUS_H_

#include <grpcpp/client_context.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace strata::rpc {

// The two code spaces are the same (https://grpc.io/docs/guides/status-codes); codes that neither
// knows become UNKNOWN. Messages are cut to kMaxStatusMessageBytes at a UTF-8 boundary, because
// they travel in an HTTP/2 header that peers bound (8 KiB by default).
inline constexpr int kMaxStatusMessageBytes = 2048;

grpc::Status ToGrpcStatus(const absl::Status& status);
// The same for the answer to the call of `context`: how soon to try again (retry_after.h) goes
// along as the trailing metadata kRetryAfterKey, in milliseconds.
inline constexpr char kRetryAfterKey[] = "retry-after-ms";
grpc::Status ToGrpcStatus(const absl::Status& status, grpc::ServerContextBase& context);
absl::Status FromGrpcStatus(const grpc::Status& status);
// The same of the call of `context`, which has ended: with what it said of trying again.
absl::Status FromGrpcStatus(const grpc::Status& status, const grpc::ClientContext& context);

}  // namespace strata::rpc

#endif  // STRATA_COMMON_RPC_STATUS_H_
