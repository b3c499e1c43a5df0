#include "common/rpc/request_id.h"

#include <algorithm>
#include <random>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace strata::rpc {
namespace {

std::string RandomId() {
  thread_local std::mt19937_64 random{std::random_device{}()};
  return absl::StrCat(absl::Hex(random(), absl::kZeroPad16), absl::Hex(random(), absl::kZeroPad16));
}

}  // namespace

bool IsRequestId(absl::string_view id) {
  constexpr absl::string_view kOthers = "-._:/+=@";
  return !id.empty() && id.size() <= kMaxRequestIdBytes &&
         std::all_of(id.begin(), id.end(), [&](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
                  kOthers.find(c) != absl::string_view::npos;
         });
}

std::string TakeRequestId(grpc::ServerContext& context, absl::string_view given) {
  std::string id;
  const auto sent = context.client_metadata().find(kRequestIdKey);
  if (sent != context.client_metadata().end()) id.assign(sent->second.data(), sent->second.size());
  if (!IsRequestId(id)) id = std::string(given);
  if (!IsRequestId(id)) id = RandomId();
  context.AddInitialMetadata(kRequestIdKey, id);
  return id;
}

}  // namespace strata::rpc
