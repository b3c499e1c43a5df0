#include "services/client/connection.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "common/base/atomic_file.h"
#include "common/rpc/bearer.h"
#include "common/rpc/credentials.h"

namespace strata::client {

namespace {

constexpr size_t kMaxTokenFileBytes = 64 << 10;

// Empty if there is none.
absl::StatusOr<std::string> ReadToken(const ConnectionFlags& flags) {
  std::string token;
  if (!flags.token_file.empty()) {
    auto read = ReadWholeFile(flags.token_file, kMaxTokenFileBytes);
    if (!read.ok()) return read.status();
    token = *std::move(read);
  } else {
    const char* variable = std::getenv("STRATA_TOKEN");
    if (variable == nullptr || *variable == '\0') return token;
    token = variable;
  }
  absl::StripAsciiWhitespace(&token);
  if (absl::Status status = rpc::CheckBearerToken(token); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(
        flags.token_file.empty() ? "STRATA_TOKEN" : flags.token_file, ": ", status.message()));
  }
  return token;
}

// Whether no address of `address` is another machine's.
bool AllLocal(absl::string_view address) {
  if (!absl::ConsumePrefix(&address, "ipv4:")) absl::ConsumePrefix(&address, "ipv6:");
  const std::vector<std::string> addresses = absl::StrSplit(address, ',');
  return std::all_of(addresses.begin(), addresses.end(),
                     [](const std::string& one) { return rpc::IsLocalAddress(one); });
}

}  // namespace

void AddConnectionFlags(CLI::App& app, ConnectionFlags& flags) {
  app.add_option("--address", flags.address,
                 "Verify service: HOST:PORT or unix:PATH; several replicas: dns:///NAME:PORT or "
                 "ipv4:HOST:PORT,HOST:PORT")
      ->capture_default_str();
  app.add_option("--timeout", flags.timeout_s, "Longest time for a call, in seconds; 0: no limit")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  app.add_flag("--tls", flags.tls, "Connect with TLS; implied by the other TLS flags");
  app.add_option("--tls-ca", flags.tls_ca,
                 "PEM authorities the server's certificate must come from (default: the system's)");
  app.add_option("--tls-cert", flags.tls_cert, "PEM certificate of this client (mutual TLS)");
  app.add_option("--tls-key", flags.tls_key, "PEM private key of this client");
  app.add_option("--token-file", flags.token_file,
                 "File that holds the bearer token to show (default: the variable STRATA_TOKEN)");
}

absl::StatusOr<std::unique_ptr<v1::GenerateService::Stub>> Connect(const ConnectionFlags& flags) {
  const rpc::TlsFiles files = {
      .cert_file = flags.tls_cert, .key_file = flags.tls_key, .ca_file = flags.tls_ca};
  const bool use_tls = flags.tls || !files.empty();
  auto credentials = rpc::MakeChannelCredentials(files, use_tls);
  if (!credentials.ok()) return credentials.status();
  auto token = ReadToken(flags);
  if (!token.ok()) return token.status();
  std::vector<std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface>> interceptors;
  if (!token->empty()) {
    if (!use_tls && !AllLocal(flags.address)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the token is not sent to ", flags.address,
          " without TLS, because anybody on the way could read it; connect with --tls"));
    }
    interceptors.push_back(rpc::NewBearerSender(*token));
  }
  grpc::ChannelArguments arguments;
  // Answers are bounded by the service; its own limits apply, not gRPC's 4 MiB.
  arguments.SetMaxReceiveMessageSize(-1);
  // Of several addresses each call goes to the next that is connected: one that is gone, or that
  // refuses because it shuts down, does not get the same request again.
  arguments.SetLoadBalancingPolicyName("round_robin");
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1000);
  // A service that hangs is noticed within 20 s. Servers of common/rpc allow a ping every 5 s.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  return v1::GenerateService::NewStub(grpc::experimental::CreateCustomChannelWithInterceptors(
      flags.address, *credentials, arguments, std::move(interceptors)));
}

}  // namespace strata::client
