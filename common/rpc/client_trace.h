#ifndef STRATA_COMMON_RPC_CLIENT_TRACE_H_
#define STRATA_COMMON_RPC_CLIENT_TRACE_H_

#include <grpcpp/server_context.h>

#include <optional>

#include "common/trace/context.h"

namespace strata::rpc {

inline constexpr char kTraceparentKey[] = "traceparent";

// The trace that the client's metadata says the call is a part of; nothing if there is none, more
// than one, or one that is not valid.
std::optional<trace::Context> ClientTrace(const grpc::ServerContext& context);

}  // namespace strata::rpc

#endif  // STRATA_COMMON_RPC_CLIENT_TRACE_H_
