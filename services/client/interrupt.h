#ifndef STRATA_SERVICES_CLIENT_INTERRUPT_H_
#define STRATA_SERVICES_CLIENT_INTERRUPT_H_

#include <grpcpp/client_context.h>

#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"

namespace strata::client {

// Turns SIGINT and SIGTERM into the cancellation of all calls under way, and of those that still
// begin; with no call under way, the process ends with kInterrupted. Requires
// rpc::BlockShutdownSignals() before any thread started. Thread-safe.
class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  // While it lives, a signal cancels `context`, which must outlive it. Any number at a time, each
  // with a context of its own.
  class Scope {
   public:
    Scope(Interrupt& interrupt, grpc::ClientContext& context);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Interrupt& interrupt_;
    grpc::ClientContext& context_;
  };

  // Whether calls were cancelled by a signal.
  bool interrupted() const;

 private:
  void Watch();

  mutable absl::Mutex mutex_;
  absl::flat_hash_set<grpc::ClientContext*> contexts_ ABSL_GUARDED_BY(mutex_);
  bool interrupted_ ABSL_GUARDED_BY(mutex_) = false;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread watcher_;
};

}  // namespace strata::client

#endif  // STRATA_SERVICES_CLIENT_INTERRUPT_H_
