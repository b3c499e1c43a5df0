#ifndef STRATA_COMMON_AUTH_QUOTAS_H_
#define STRATA_COMMON_AUTH_QUOTAS_H_

#include <cstdint>

namespace strata::auth {

// What one tenant may use; 0: without bound.
struct Quotas {
  uint64_t concurrent_requests = 0;
  uint64_t requests_per_minute = 0;
  // Prompt and output together.
  uint64_t tokens_per_minute = 0;

  friend bool operator==(const Quotas&, const Quotas&) = default;
};

}  // namespace strata::auth

#endif  // STRATA_COMMON_AUTH_QUOTAS_H_
