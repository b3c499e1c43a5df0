#include "services/client/connection.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/support/channel_arguments.h>

#include "common/rpc/credentials.h"

namespace strata::client {

void AddConnectionFlags(CLI::App& app, ConnectionFlags& flags) {
  app.add_option("--address", flags.address, "Verify service: HOST:PORT or unix:PATH")
      ->capture_default_str();
  app.add_option("--timeout", flags.timeout_s, "Longest time for a call, in seconds; 0: no limit")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  app.add_flag("--tls", flags.tls, "Connect with TLS; implied by the other TLS flags");
  app.add_option("--tls-ca", flags.tls_ca,
                 "PEM authorities the server's certificate must come from (default: the system's)");
  app.add_option("--tls-cert", flags.tls_cert, "PEM certificate of this client (mutual TLS)");
  app.add_option("--tls-key", flags.tls_key, "PEM private key of this client");
}

absl::StatusOr<std::unique_ptr<v1::GenerateService::Stub>> Connect(const ConnectionFlags& flags) {
  const rpc::TlsFiles files = {
      .cert_file = flags.tls_cert, .key_file = flags.tls_key, .ca_file = flags.tls_ca};
  auto credentials = rpc::MakeChannelCredentials(files, flags.tls || !files.empty());
  if (!credentials.ok()) return credentials.status();
  grpc::ChannelArguments arguments;
  // Answers are bounded by the service; its own limits apply, not gRPC's 4 MiB.
  arguments.SetMaxReceiveMessageSize(-1);
  return v1::GenerateService::NewStub(
      grpc::CreateCustomChannel(flags.address, *credentials, arguments));
}

}  // namespace strata::client
