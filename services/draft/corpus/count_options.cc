#include "services/draft/corpus/count_options.h"

#include "absl/strings/str_cat.h"

namespace strata::draft {

absl::Status ValidateCountOptions(const CountOptions& options) {
  if (options.max_order < 1 || options.max_order > kMaxContextOrder) {
    return absl::InvalidArgumentError(absl::StrCat("orders: up to ", options.max_order, "; 1 to ",
                                                   kMaxContextOrder,
                                                   " is the longest context allowed"));
  }
  if (options.top < 1 || options.top > kMaxContinuations) {
    return absl::InvalidArgumentError(
        absl::StrCat("top: ", options.top, " is not in 1 to ", kMaxContinuations));
  }
  if (options.prune_count < 1) {
    return absl::InvalidArgumentError("prune-count: must be at least 1");
  }
  if (options.prune_continuations < 1) {
    return absl::InvalidArgumentError("prune-continuations: must be at least 1");
  }
  return absl::OkStatus();
}

}  // namespace strata::draft
