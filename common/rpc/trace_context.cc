#include "common/rpc/trace_context.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/ascii.h"

namespace strata::rpc {
namespace {

// "00-<32 digits>-<16 digits>-<2 digits>"
constexpr size_t kLength = 55;
constexpr size_t kTraceId = 3;
constexpr size_t kParentId = 36;
constexpr size_t kFlags = 53;

bool IsHex(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return absl::ascii_isxdigit(c) && !absl::ascii_isupper(c);
  });
}

bool IsId(absl::string_view text) {
  return IsHex(text) && text.find_first_not_of('0') != absl::string_view::npos;
}

int DigitOf(char c) { return absl::ascii_isdigit(c) ? c - '0' : c - 'a' + 10; }

}  // namespace

std::optional<TraceContext> ParseTraceparent(absl::string_view text) {
  if (text.size() < kLength) return std::nullopt;
  const absl::string_view version = text.substr(0, 2);
  const absl::string_view trace_id = text.substr(kTraceId, 32);
  const absl::string_view parent_id = text.substr(kParentId, 16);
  const absl::string_view flags = text.substr(kFlags, 2);
  if (text[2] != '-' || text[kParentId - 1] != '-' || text[kFlags - 1] != '-') return std::nullopt;
  if (!IsHex(version) || version == "ff" || !IsId(trace_id) || !IsId(parent_id) || !IsHex(flags)) {
    return std::nullopt;
  }
  if (text.size() > kLength && (version == "00" || text[kLength] != '-')) return std::nullopt;
  return TraceContext{std::string(trace_id), std::string(parent_id), DigitOf(flags[1]) % 2 == 1};
}

std::optional<TraceContext> ClientTrace(const grpc::ServerContext& context) {
  const auto [begin, end] = context.client_metadata().equal_range("traceparent");
  if (begin == end || std::next(begin) != end) return std::nullopt;
  return ParseTraceparent(absl::string_view(begin->second.data(), begin->second.size()));
}

}  // namespace strata::rpc
