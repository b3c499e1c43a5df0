#ifndef STRATA_COMMON_RPC_SHUTDOWN_SIGNAL_H_
#define STRATA_COMMON_RPC_SHUTDOWN_SIGNAL_H_

#include <csignal>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace strata::rpc {

// SIGTERM and SIGINT.
sigset_t ShutdownSignals();

// SIGTERM and SIGINT as a synchronous event. Call BlockShutdownSignals() in main() before any
// thread starts: threads inherit the mask, so the signals stay pending for the one that waits and
// no code runs in signal context. Also ignores SIGPIPE (a peer that went away is an error code).
absl::Status BlockShutdownSignals();

// Waits up to `timeout` (absl::InfiniteDuration() for ever) and returns the signal's number, or 0
// after the timeout.
int WaitForShutdownSignal(absl::Duration timeout);

}  // namespace strata::rpc

#endif  // STRATA_COMMON_RPC_SHUTDOWN_SIGNAL_H_
