#ifndef STRATA_SERVICES_DRAFT_SERVER_STREAM_REGISTRY_H_
#define STRATA_SERVICES_DRAFT_SERVER_STREAM_REGISTRY_H_

#include <grpcpp/server_context.h>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"

namespace strata::draft {

// The open streams, so that a drain can end them: a stream lasts as long as its verifier, so
// waiting for it to end by itself would not do. A message that is being answered is still
// answered; a stream that waits for its next message is cancelled. Thread-safe.
class StreamRegistry {
 public:
  // Stands for one open stream, from its handler's beginning to its end.
  class Stream {
   public:
    // Both are borrowed.
    Stream(StreamRegistry* registry, grpc::ServerContext* context);
    ~Stream();
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;
    // Before a message is answered, and after. False: the service drains, end the stream.
    bool SetBusy(bool busy);

   private:
    StreamRegistry* const registry_;
    grpc::ServerContext* const context_;
  };

  // Ends all streams, present and future.
  void Drain() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  absl::Mutex mutex_;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  // Context -> whether a message of the stream is being answered.
  absl::flat_hash_map<grpc::ServerContext*, bool> streams_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_SERVER_STREAM_REGISTRY_H_
