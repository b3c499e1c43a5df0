#include "common/base/retry_after.h"

#include <cstdint>
#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace strata {
namespace {
constexpr char kPayload[] = "strata/retry-after-ms";
}  // namespace

absl::Status WithRetryAfter(absl::Status error, absl::Duration delay) {
  const int64_t milliseconds = absl::ToInt64Milliseconds(absl::Ceil(delay, absl::Milliseconds(1)));
  error.SetPayload(kPayload, absl::Cord(absl::StrCat(milliseconds)));
  return error;
}

std::optional<absl::Duration> RetryAfter(const absl::Status& error) {
  const auto payload = error.GetPayload(kPayload);
  int64_t milliseconds = 0;
  if (!payload || !absl::SimpleAtoi(std::string(*payload), &milliseconds)) return std::nullopt;
  return absl::Milliseconds(milliseconds);
}

}  // namespace strata
