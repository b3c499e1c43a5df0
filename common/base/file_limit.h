#ifndef STRATA_COMMON_BASE_FILE_LIMIT_H_
#define STRATA_COMMON_BASE_FILE_LIMIT_H_

#include "absl/status/status.h"

namespace strata {

// Lets this process open as many files as the system allows (RLIMIT_NOFILE: the soft limit becomes
// the hard one).
absl::Status RaiseOpenFileLimit();

}  // namespace strata

#endif  // STRATA_COMMON_BASE_FILE_LIMIT_H_
