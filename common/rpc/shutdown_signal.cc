#include "common/rpc/shutdown_signal.h"

#include <pthread.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <ctime>

#include "common/base/steady_clock.h"

namespace strata::rpc {

sigset_t ShutdownSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}

absl::Status BlockShutdownSignals() {
  const sigset_t set = ShutdownSignals();
  if (const int error = pthread_sigmask(SIG_BLOCK, &set, nullptr); error != 0) {
    return absl::ErrnoToStatus(error, "cannot block SIGTERM and SIGINT");
  }
  if (signal(SIGPIPE, SIG_IGN) == SIG_ERR) {
    return absl::ErrnoToStatus(errno, "cannot ignore SIGPIPE");
  }
  return absl::OkStatus();
}

int WaitForShutdownSignal(absl::Duration timeout) {
  const sigset_t set = ShutdownSignals();
  const absl::Time end = SteadyNow() + timeout;
  for (;;) {
    int signal_number;
    if (timeout == absl::InfiniteDuration()) {
      signal_number = sigwaitinfo(&set, nullptr);
    } else {
      const timespec left = absl::ToTimespec(std::max(absl::ZeroDuration(), end - SteadyNow()));
      signal_number = sigtimedwait(&set, nullptr, &left);
    }
    if (signal_number > 0) return signal_number;
    // EAGAIN is the timeout; EINTR (a debugger, SIGCONT) is none of our business.
    if (errno != EINTR) return 0;
  }
}

}  // namespace strata::rpc
