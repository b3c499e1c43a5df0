#ifndef STRATA_COMMON_RPC_STARTING_H_
#define STRATA_COMMON_RPC_STARTING_H_

#include <memory>
#include <thread>

#include "absl/status/statusor.h"

namespace strata::rpc {

// While it lives, SIGTERM and SIGINT end the process at once, with exit code 0: for the time in
// which a service loads what it needs, which takes long, may hang on a slow disk, and has no place
// to stop. Nothing is served by then, so there is nothing to drain, and what is written meanwhile
// is written whole or not at all (WriteFileAtomically). No destructor runs: libraries' threads may
// be in the middle of anything.
//
// Needs BlockShutdownSignals(). A signal that comes as it is destroyed stays pending for
// WaitForShutdownSignal, or ends the process still.
class Starting {
 public:
  static absl::StatusOr<std::unique_ptr<Starting>> Begin();
  ~Starting();
  Starting(const Starting&) = delete;
  Starting& operator=(const Starting&) = delete;

 private:
  Starting(int signals, int over);
  void Watch() const;

  // Descriptors: readable when a signal came, and when the start is over.
  const int signals_;
  const int over_;
  std::thread watcher_;
};

}  // namespace strata::rpc

#endif  // STRATA_COMMON_RPC_STARTING_H_
