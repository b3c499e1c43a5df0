#include "common/rpc/client_trace.h"

#include <iterator>

#include "absl/strings/string_view.h"

namespace strata::rpc {

std::optional<trace::Context> ClientTrace(const grpc::ServerContext& context) {
  const auto [begin, end] = context.client_metadata().equal_range(kTraceparentKey);
  if (begin == end || std::next(begin) != end) return std::nullopt;
  return trace::ParseTraceparent(absl::string_view(begin->second.data(), begin->second.size()));
}

}  // namespace strata::rpc
