#ifndef STRATA_SERVICES_CLIENT_INTERRUPT_H_
#define STRATA_SERVICES_CLIENT_INTERRUPT_H_

#include <grpcpp/client_context.h>

#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace strata::client {

// Turns SIGINT and SIGTERM into the cancellation of the call under way; with no
// call under way, the process ends with kInterrupted. Requires
// rpc::BlockShutdownSignals() before any thread started. One at a time. Thread-safe.
class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  // While it lives, a signal cancels `context`, which must outlive it.
  class Scope {
   public:
    Scope(Interrupt& interrupt, grpc::ClientContext& context);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Interrupt& interrupt_;
  };

  // Whether a call was cancelled by a signal.
  bool interrupted() const;

 private:
  void Watch();

  mutable absl::Mutex mutex_;
  grpc::ClientContext* context_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool interrupted_ ABSL_GUARDED_BY(mutex_) = false;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread watcher_;
};

}  // namespace strata::client

#endif  // STRATA_SERVICES_CLIENT_INTERRUPT_H_
