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
    : interrupt_(interrupt), context_(context) {
  absl::MutexLock lock(&interrupt_.mutex_);
  interrupt_.contexts_.insert(&context);
  // Where calls follow each other on several threads, some begin after the signal.
  if (interrupt_.interrupted_) context.TryCancel();
}

Interrupt::Scope::~Scope() {
  absl::MutexLock lock(&interrupt_.mutex_);
  interrupt_.contexts_.erase(&context_);
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
    if (contexts_.empty() || interrupted_) _exit(kInterrupted);
    interrupted_ = true;
    for (grpc::ClientContext* context : contexts_) context->TryCancel();
  }
}

}  // namespace strata::client
