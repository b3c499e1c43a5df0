#include "common/rpc/starting.h"

#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>

#include "common/rpc/shutdown_signal.h"

namespace strata::rpc {

absl::StatusOr<std::unique_ptr<Starting>> Starting::Begin() {
  const sigset_t set = ShutdownSignals();
  const int signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signals < 0) return absl::ErrnoToStatus(errno, "cannot watch for SIGTERM and SIGINT");
  const int over = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (over < 0) {
    const absl::Status status = absl::ErrnoToStatus(errno, "cannot make an eventfd");
    close(signals);
    return status;
  }
  return std::unique_ptr<Starting>(new Starting(signals, over));
}

Starting::Starting(int signals, int over)
    : signals_(signals), over_(over), watcher_([this] { Watch(); }) {}

Starting::~Starting() {
  const uint64_t one = 1;
  // Of a new counter: cannot fail.
  [[maybe_unused]] const ssize_t written = write(over_, &one, sizeof(one));
  watcher_.join();
  close(over_);
  close(signals_);
}

void Starting::Watch() const {
  for (;;) {
    std::array<pollfd, 2> watched = {{{over_, POLLIN, 0}, {signals_, POLLIN, 0}}};
    if (poll(watched.data(), watched.size(), /*timeout=*/-1) < 0 && errno != EINTR) return;
    if (watched[0].revents != 0) return;
    signalfd_siginfo signal;
    if (watched[1].revents == 0 || read(signals_, &signal, sizeof(signal)) != sizeof(signal)) {
      continue;
    }
    spdlog::info("signal {}: stopped while starting", signal.ssi_signo);
    _exit(0);
  }
}

}  // namespace strata::rpc
