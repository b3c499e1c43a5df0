#ifndef STRATA_SERVICES_CLIENT_EXIT_CODES_H_
#define STRATA_SERVICES_CLIENT_EXIT_CODES_H_

namespace strata::client {

// What the strata command returns to its caller.
enum ExitCode : int {
  kSuccess = 0,
  // `bench exact` found tokens that differ.
  kDifferent = 1,
  // Wrong flags, or a local file that cannot be read.
  kUsage = 2,
  // The service refused, failed or was not reached; the status stands on standard error.
  kServiceError = 3,
  // Ctrl-C or SIGTERM, as shells report it.
  kInterrupted = 130,
};

}  // namespace strata::client

#endif  // STRATA_SERVICES_CLIENT_EXIT_CODES_H_
