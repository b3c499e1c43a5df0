#include "common/rpc/server.h"

#include <grpcpp/ext/channelz_service_plugin.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server_builder.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/base/host_port.h"

namespace strata::rpc {
namespace {

// Fewer threads than this and gRPC's own pollers leave none for calls.
constexpr int kMinThreads = 4;
constexpr int kMinMessageBytes = 1024;
// Peers may probe an idle connection this often without being dropped for it.
constexpr int kMinPingIntervalMs = 5000;
// A client that vanished without a word is noticed within these, and its calls are cancelled.
constexpr int kPingIntervalMs = 30'000;
constexpr int kPingTimeoutMs = 20'000;

absl::Status CheckListen(absl::string_view listen) {
  if (absl::StartsWith(listen, "unix:")) return absl::OkStatus();
  if (ParseHostPort(listen).has_value()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "listen address '", listen, "' is neither HOST:PORT (0 to 65535) nor unix:PATH"));
}

absl::Status CheckOptions(const ServerOptions& options) {
  if (absl::Status status = CheckListen(options.listen); !status.ok()) return status;
  if (options.max_threads < kMinThreads) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_threads is ", options.max_threads, ", must be at least ", kMinThreads));
  }
  if (options.max_receive_bytes < kMinMessageBytes || options.max_send_bytes < kMinMessageBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("message size limits are ", options.max_receive_bytes, " and ",
                     options.max_send_bytes, " bytes, must be at least ", kMinMessageBytes));
  }
  return absl::OkStatus();
}

// INT_MAX, for ever, for what is longer than that.
int ToMilliseconds(absl::Duration duration) {
  return static_cast<int>(
      std::clamp<int64_t>(absl::ToInt64Milliseconds(duration), 1, std::numeric_limits<int>::max()));
}

absl::Status CannotListen(const std::string& listen) {
  return absl::UnavailableError(
      absl::StrCat("cannot listen on '", listen, "': the address is in use or not this machine's"));
}

std::string BoundAddress(const std::string& listen, int port) {
  if (absl::StartsWith(listen, "unix:")) return listen;
  return WithPort(listen, port);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerOptions& options,
                                                      std::span<grpc::Service* const> services) {
  if (absl::Status status = CheckOptions(options); !status.ok()) return status;
  auto credentials = MakeServerCredentials(options.tls, options.client_names);
  if (!credentials.ok()) return credentials.status();

  // Both act on every server built from here on. Reflection is named rather than left to its
  // library's static initializer, which the linker may drop.
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  if (options.channelz) grpc::channelz::experimental::InitChannelzService();

  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(options.max_receive_bytes);
  builder.SetMaxSendMessageSize(options.max_send_bytes);
  grpc::ResourceQuota quota("strata");
  quota.SetMaxThreads(options.max_threads).Resize(options.max_buffered_bytes);
  builder.SetResourceQuota(quota);
  // Two servers on one port would share its connections at random; fail instead.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kPingIntervalMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kPingTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kMinPingIntervalMs);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS,
                             ToMilliseconds(options.max_connection_age));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS,
                             ToMilliseconds(options.connection_age_grace));
  int port = 0;
  builder.AddListeningPort(options.listen, credentials->credentials, &port);
  for (grpc::Service* service : services) builder.RegisterService(service);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || port == 0) return CannotListen(options.listen);
  std::string address = BoundAddress(options.listen, port);
  std::unique_ptr<Server> started(
      new Server(*std::move(credentials), std::move(server), std::move(address)));
  if (!options.health_listen.empty()) {
    absl::Status status = started->StartHealth(options.health_listen);
    if (!status.ok()) return status;
  }
  return started;
}

absl::Status Server::StartHealth(const std::string& listen) {
  if (absl::Status status = CheckListen(listen); !status.ok()) return status;
  // Two services that gRPC makes itself: health, and reflection, which is registered for all.
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(kMinMessageBytes);
  builder.SetResourceQuota(grpc::ResourceQuota("strata-health").SetMaxThreads(kMinThreads));
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  int port = 0;
  builder.AddListeningPort(listen, grpc::InsecureServerCredentials(), &port);
  health_ = builder.BuildAndStart();
  if (health_ == nullptr || port == 0) return CannotListen(listen);
  health_address_ = BoundAddress(listen, port);
  return absl::OkStatus();
}

Server::Server(ServerCredentials credentials, std::unique_ptr<grpc::Server> server,
               std::string address)
    : credentials_(std::move(credentials)),
      server_(std::move(server)),
      address_(std::move(address)) {}

Server::~Server() { Shutdown(absl::ZeroDuration()); }

void Server::SetServing(bool serving) {
  for (grpc::Server* server : {server_.get(), health_.get()}) {
    if (server == nullptr) continue;
    if (grpc::HealthCheckServiceInterface* health = server->GetHealthCheckService()) {
      health->SetServingStatus(serving);
    }
  }
}

void Server::Shutdown(absl::Duration grace) {
  SetServing(false);
  // A day stands for ever: adding more to the clock would overflow it.
  grace = std::clamp(grace, absl::ZeroDuration(), absl::Hours(24));
  server_->Shutdown(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(grace));
  server_->Wait();
  if (health_ == nullptr) return;
  health_->Shutdown(std::chrono::system_clock::now());
  health_->Wait();
}

}  // namespace strata::rpc
