#ifndef STRATA_SERVICES_DRAFT_CORPUS_COUNT_OPTIONS_H_
#define STRATA_SERVICES_DRAFT_CORPUS_COUNT_OPTIONS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "services/draft/tiers/evidence.h"

namespace strata::draft {

// What of the counts goes into a snapshot.
struct CountOptions {
  // Contexts have 1 to max_order tokens; 1 to kMaxContextOrder.
  int max_order = 6;
  // Continuations told of a context, 1 to kMaxContinuations.
  int top = 8;
  // Contexts of two and more tokens that occur less often are left out; at least 1.
  uint64_t prune_count = 2;
  // Continuations of these contexts that occur less often are left out, and a context that has none
  // left; at least 1.
  uint64_t prune_continuations = 1;
  // Keep every window with its count, whatever the three above say: to be merged, not to be read.
  bool shard = false;
};

// INVALID_ARGUMENT names the option that is out of its bounds, and the bounds.
absl::Status ValidateCountOptions(const CountOptions& options);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_COUNT_OPTIONS_H_
