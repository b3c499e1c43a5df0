#ifndef STRATA_SERVICES_VERIFY_DRAFTING_REMOTE_DRAFT_SOURCE_H_
#define STRATA_SERVICES_VERIFY_DRAFTING_REMOTE_DRAFT_SOURCE_H_

#include <grpcpp/channel.h>
#include <grpcpp/security/credentials.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "services/verify/drafting/circuit_breaker.h"
#include "services/verify/drafting/draft_source.h"
#include "services/verify/drafting/identity.h"

namespace strata::verify {

struct RemoteDraftOptions {
  // Longest wait for the drafts of one step, resends included.
  absl::Duration deadline = absl::Milliseconds(20);
  // Nodes of the tree that the service drafts ahead for each sequence while a step runs (of fewer
  // where there are many sequences); 0: none. A draft that is found in it is not waited for.
  uint32_t ahead_nodes = 64;
  CircuitBreakerOptions breaker;
  // Longest pause after the service refused this verifier (FAILED_PRECONDITION: a foreign
  // tokenizer). The first is as short as after a broken stream, because another replica may take
  // it; they double with each refusal, because one may be restarted with the right corpus.
  absl::Duration refused_pause = absl::Seconds(30);
  // Asked before each stream that is opened: another channel than the last takes its place, as
  // with new certificates. Null: the first stays.
  std::function<std::shared_ptr<grpc::Channel>()> renew_channel;
};

// A channel to a draft service that reconnects within a second or two and notices a
// peer that vanished. `address` is HOST:PORT, unix:PATH, or one of gRPC's names for several
// replicas: dns:///NAME:PORT (all addresses of the name), ipv4:HOST:PORT,HOST:PORT.
std::shared_ptr<grpc::Channel> NewDraftChannel(
    const std::string& address, const std::shared_ptr<grpc::ChannelCredentials>& credentials);

// Drafts over one DraftStream. A service that is gone, stopped, slow, forgetful or
// talks nonsense only makes drafts `missed`: those come from `fallback` instead (the
// verifier's own context tier; may be null for empty trees). Never waits for longer than the
// deadline a step, and not at all while the circuit breaker is open: from the first miss or broken
// stream on that opened it until its cool-down is over.
std::unique_ptr<DraftSource> NewRemoteDraftSource(std::shared_ptr<grpc::Channel> channel,
                                                  const DraftIdentity& identity,
                                                  const RemoteDraftOptions& options,
                                                  std::unique_ptr<DraftSource> fallback);

}  // namespace strata::verify

#endif  // STRATA_SERVICES_VERIFY_DRAFTING_REMOTE_DRAFT_SOURCE_H_
