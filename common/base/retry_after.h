#ifndef STRATA_COMMON_BASE_RETRY_AFTER_H_
#define STRATA_COMMON_BASE_RETRY_AFTER_H_

#include <optional>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace strata {

// Says with an error how soon the same request may succeed. It travels as the trailing metadata
// "retry-after-ms" (rpc::ToGrpcStatus). Rounded up to whole milliseconds.
absl::Status WithRetryAfter(absl::Status error, absl::Duration delay);
std::optional<absl::Duration> RetryAfter(const absl::Status& error);

}  // namespace strata

#endif  // STRATA_COMMON_BASE_RETRY_AFTER_H_
