#ifndef STRATA_COMMON_RPC_STATUS_H_
#define STRATA_COMMON_RPC_STATUS_H_

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace strata::rpc {

// The two code spaces are the same (https://grpc.io/docs/guides/status-codes); codes that neither
// knows become UNKNOWN. Messages are cut to kMaxStatusMessageBytes at a UTF-8 boundary, because
// they travel in an HTTP/2 header that peers bound (8 KiB by default).
inline constexpr int kMaxStatusMessageBytes = 2048;

grpc::Status ToGrpcStatus(const absl::Status& status);
absl::Status FromGrpcStatus(const grpc::Status& status);

}  // namespace strata::rpc

#endif  // STRATA_COMMON_RPC_STATUS_H_
