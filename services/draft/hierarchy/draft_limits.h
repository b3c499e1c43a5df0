#ifndef STRATA_SERVICES_DRAFT_HIERARCHY_DRAFT_LIMITS_H_
#define STRATA_SERVICES_DRAFT_HIERARCHY_DRAFT_LIMITS_H_

#include <cstdint>

namespace strata::draft {

// What one draft may be at most.
struct DraftLimits {
  uint32_t node_budget = 0;
  // 0: the policy's own.
  uint32_t max_depth = 0;
  // Tokens outside [0, vocab_size) are never drafted.
  int64_t vocab_size = 0;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_HIERARCHY_DRAFT_LIMITS_H_
