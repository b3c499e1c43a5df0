#ifndef STRATA_COMMON_RPC_TRACE_CONTEXT_H_
#define STRATA_COMMON_RPC_TRACE_CONTEXT_H_

#include <grpcpp/server_context.h>

#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace strata::rpc {

// Where a call stands in a distributed trace: W3C Trace Context
// (https://www.w3.org/TR/trace-context).
struct TraceContext {
  // 32 and 16 hexadecimal digits, lower case, not all zero.
  std::string trace_id;
  std::string parent_id;
  bool sampled = false;
};

// Of a traceparent header; nothing if it is not valid. A later version than 00 is read as far as
// that goes, as the standard wants it.
std::optional<TraceContext> ParseTraceparent(absl::string_view text);

// Of the client's metadata; nothing if there is none, more than one, or one that is not valid.
std::optional<TraceContext> ClientTrace(const grpc::ServerContext& context);

}  // namespace strata::rpc

#endif  // STRATA_COMMON_RPC_TRACE_CONTEXT_H_
