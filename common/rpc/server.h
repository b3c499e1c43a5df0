#ifndef STRATA_COMMON_RPC_SERVER_H_
#define STRATA_COMMON_RPC_SERVER_H_

#include <grpcpp/impl/codegen/service_type.h>
#include <grpcpp/server.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/rpc/credentials.h"

namespace strata::rpc {

struct ServerOptions {
  // host:port ("127.0.0.1:0", "[::]:50051"; port 0 lets the system choose) or unix:PATH.
  std::string listen = "127.0.0.1:0";
  TlsFiles tls;
  // HOST:PORT where the health service alone is served too, in the clear: for probes that do not
  // speak TLS or have no certificate (Kubernetes'). Empty: not at all.
  std::string health_listen;
  // If there are any, only clients whose certificate has one of these names are served; see
  // MakeServerCredentials.
  std::vector<std::string> client_names;
  // A longer message ends its call with RESOURCE_EXHAUSTED, before it is parsed.
  int max_receive_bytes = 16 << 20;
  int max_send_bytes = 64 << 20;
  // Most memory for messages that are under way on all connections, whole or in part; calls that
  // would need more are cancelled, and connections ended. Several times max_receive_bytes.
  size_t max_buffered_bytes = size_t{256} << 20;
  // Most threads that serve calls; a stream holds one while it is open. Calls beyond that get
  // RESOURCE_EXHAUSTED.
  int max_threads = 256;
  // A client whose connection is older is told to make a new one, and loses no call by it; calls
  // under way have `connection_age_grace` to end. gRPC varies the age by a tenth either way.
  absl::Duration max_connection_age = absl::InfiniteDuration();
  absl::Duration connection_age_grace = absl::InfiniteDuration();
  // Also serve channelz, the state of every connection of the process. Holds for all servers that
  // are started later.
  bool channelz = false;
};

// A running gRPC server with the standard health service (grpc.health.v1) and reflection.
// Thread-safe.
class Server {
 public:
  // Binds and starts to serve. `services` are borrowed and must outlive the server.
  // INVALID_ARGUMENT for options out of range or a TLS file that is no good, UNAVAILABLE if the
  // address cannot be bound.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const ServerOptions& options,
                                                       std::span<grpc::Service* const> services);
  // Shuts down without grace.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Where it listens, with the port the system chose: what a client can dial (given a listen host
  // that can be dialled).
  const std::string& address() const { return address_; }
  // The same of the health service's own listener; empty without one.
  const std::string& health_address() const { return health_address_; }
  // When the certificate in use expires; the infinite future without one.
  absl::Time certificate_expiry() const {
    return credentials_.tls == nullptr ? absl::InfiniteFuture()
                                       : credentials_.tls->Get()->not_after;
  }
  // What the health service answers, for the server as a whole ("") and for every service.
  // Serving from the start.
  void SetServing(bool serving);
  // Answers NOT_SERVING, refuses new calls, waits up to `grace` for calls under way, then cancels
  // them; returns when all have ended. Handlers of long streams should be told to end first.
  // Later calls do nothing.
  void Shutdown(absl::Duration grace);

 private:
  Server(ServerCredentials credentials, std::unique_ptr<grpc::Server> server, std::string address);
  // INVALID_ARGUMENT or UNAVAILABLE, as Start.
  absl::Status StartHealth(const std::string& listen);

  // gRPC asks them for certificates as long as the server lives.
  const ServerCredentials credentials_;
  std::unique_ptr<grpc::Server> server_;
  const std::string address_;
  // Null without a listener of its own.
  std::unique_ptr<grpc::Server> health_;
  std::string health_address_;
};

}  // namespace strata::rpc

#endif  // STRATA_COMMON_RPC_SERVER_H_
