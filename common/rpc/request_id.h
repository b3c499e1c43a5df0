#ifndef STRATA_COMMON_RPC_REQUEST_ID_H_
#define STRATA_COMMON_RPC_REQUEST_ID_H_

#include <grpcpp/server_context.h>

#include <string>

#include "absl/strings/string_view.h"

namespace strata::rpc {

inline constexpr char kRequestIdKey[] = "x-request-id";
inline constexpr size_t kMaxRequestIdBytes = 128;

// Whether `id` may be logged and sent as metadata as it is: 1 to kMaxRequestIdBytes letters,
// digits and any of "-._:/+=@".
bool IsRequestId(absl::string_view id);

// The id that names a call in logs: the client's metadata x-request-id, else `given`, the first of
// them that is a request id, else a random one. It goes back to the client in the initial metadata,
// so call this once, before anything is sent.
std::string TakeRequestId(grpc::ServerContext& context, absl::string_view given);

}  // namespace strata::rpc

#endif  // STRATA_COMMON_RPC_REQUEST_ID_H_
