#include "services/client/interrupt.h"

#include <unistd.h>

#include "absl/time/time.h"
#include "common/rpc/shutdown_signal.h"
#include "services/client/exit_codes.h"

namespace strata::client {
namespace {
// How long the end of the process may wait for the watcher.
constexpr absl::Duration kPollInterval = absl::Milliseconds(20);
}  // namespace

Interrupt::Interrupt() : watcher_([this] { Watch(); }) {}

Interrupt::~Interrupt() {
  {
    absl::MutexLock lock(&mutex_);
    stop_ = true;
  }
  watcher_.join();
}

Interrupt::Scope::Scope(Interrupt& interrupt, grpc::ClientContext& context)
    : interrupt_(interrupt) {
  absl::MutexLock lock(&interrupt_.mutex_);
  interrupt_.context_ = &context;
}

Interrupt::Scope::~Scope() {
  absl::MutexLock lock(&interrupt_.mutex_);
  interrupt_.context_ = nullptr;
}

bool Interrupt::interrupted() const {
  absl::MutexLock lock(&mutex_);
  return interrupted_;
}

void Interrupt::Watch() {
  while (true) {
    const int signal = rpc::WaitForShutdownSignal(kPollInterval);
    absl::MutexLock lock(&mutex_);
    if (stop_) return;
    if (signal == 0) continue;
    // A second signal does not wait for the first one's cancellation.
    if (context_ == nullptr || interrupted_) _exit(kInterrupted);
    interrupted_ = true;
    context_->TryCancel();
  }
}

}  // namespace strata::client
