// common/rpc: what both servers stand on. Real connections over loopback.
#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <csignal>
#include <fstream>
#include <set>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/rpc/credentials.h"
#include "common/rpc/request_id.h"
#include "common/rpc/server.h"
#include "common/rpc/shutdown_signal.h"
#include "common/rpc/status.h"
#include "strata/v1/draft.grpc.pb.h"
#include "tests/common/raw_call.h"
#include "tests/draft/test_certificates.h"
#include "tests/draft/test_util.h"

namespace strata::rpc {
namespace {

using ::testing::HasSubstr;

class EchoService final : public v1::DraftService::Service {
 public:
  grpc::Status GetDraftInfo(grpc::ServerContext* context, const v1::GetDraftInfoRequest* request,
                            v1::GetDraftInfoResponse* response) override {
    response->set_version("here");
    absl::MutexLock lock(&mutex_);
    peers_.insert(context->peer());
    return grpc::Status::OK;
  }
  // How many connections calls came by.
  size_t connections() const {
    absl::MutexLock lock(&mutex_);
    return peers_.size();
  }

 private:
  mutable absl::Mutex mutex_;
  std::set<std::string> peers_ ABSL_GUARDED_BY(mutex_);
};

class RpcTest : public testing::Test {
 protected:
  std::string Write(const std::string& name, const std::string& content) {
    std::string path = folder_.path() / name;
    std::ofstream(path) << content;
    return path;
  }
  std::unique_ptr<Server> Start(const ServerOptions& options) {
    const std::array<grpc::Service*, 1> services = {&service_};
    auto server = Server::Start(options, services);
    EXPECT_TRUE(server.ok()) << server.status();
    return server.ok() ? *std::move(server) : nullptr;
  }
  absl::Status StartStatus(const ServerOptions& options) {
    const std::array<grpc::Service*, 1> services = {&service_};
    return Server::Start(options, services).status();
  }
  static absl::Status Call(const std::string& address,
                           const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
    const auto stub = v1::DraftService::NewStub(grpc::CreateChannel(address, credentials));
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    v1::GetDraftInfoResponse response;
    const grpc::Status status = stub->GetDraftInfo(&context, {}, &response);
    if (status.ok()) {
      EXPECT_EQ(response.version(), "here");
    }
    return FromGrpcStatus(status);
  }
  // The raw answer of the standard health service: field 1, 1 is SERVING, 2 NOT_SERVING.
  static std::string Health(const std::string& address) {
    grpc::Status status;
    std::string bytes = CallEmpty(address, "/grpc.health.v1.Health/Check", status);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return bytes;
  }
  // The raw answer of a unary method to a message without fields.
  static std::string CallEmpty(const std::string& address, const std::string& method,
                               grpc::Status& status) {
    std::string bytes;
    status = CallWithBytes(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()), method,
                           "", &bytes);
    return bytes;
  }

  draft::TemporaryFolder folder_;
  EchoService service_;
};

TEST_F(RpcTest, ServesHealthAndShutsDown) {
  const auto server = Start({});
  ASSERT_NE(server, nullptr);
  EXPECT_TRUE(Call(server->address(), grpc::InsecureChannelCredentials()).ok());
  EXPECT_EQ(Health(server->address()), "\x08\x01");
  server->SetServing(false);
  EXPECT_EQ(Health(server->address()), "\x08\x02");
  server->Shutdown(absl::InfiniteDuration());
  server->Shutdown(absl::ZeroDuration());
  EXPECT_TRUE(absl::IsUnavailable(Call(server->address(), grpc::InsecureChannelCredentials())));
}

TEST_F(RpcTest, HealthIsServedInTheClearOnAListenerOfItsOwn) {
  const auto server = Start({.listen = "localhost:0",
                             .tls = {.cert_file = Write("sc", kServerCertificate),
                                     .key_file = Write("sk", kServerKey),
                                     .ca_file = Write("ca", kClientCertificate)},
                             .health_listen = "127.0.0.1:0"});
  ASSERT_NE(server, nullptr);
  ASSERT_NE(server->health_address(), server->address());
  EXPECT_EQ(Health(server->health_address()), "\x08\x01");
  // Nothing else is.
  grpc::Status status;
  CallEmpty(server->health_address(), "/strata.v1.DraftService/GetDraftInfo", status);
  EXPECT_EQ(status.error_code(), grpc::UNIMPLEMENTED);
  server->SetServing(false);
  EXPECT_EQ(Health(server->health_address()), "\x08\x02");
  const std::string address = server->health_address();
  server->Shutdown(absl::ZeroDuration());
  CallEmpty(address, "/grpc.health.v1.Health/Check", status);
  EXPECT_EQ(status.error_code(), grpc::UNAVAILABLE);
  EXPECT_EQ(Start({})->health_address(), "");
  EXPECT_TRUE(absl::IsInvalidArgument(StartStatus({.health_listen = "nonsense"})));
  const auto other = Start({});
  EXPECT_TRUE(absl::IsUnavailable(StartStatus({.health_listen = other->address()})));
}

TEST_F(RpcTest, ReflectionNamesTheServices) {
  const auto server = Start({});
  ASSERT_NE(server, nullptr);
  std::string answer;
  // A ServerReflectionRequest: list_services (7), of any.
  const grpc::Status status = CallWithBytes(
      grpc::CreateChannel(server->address(), grpc::InsecureChannelCredentials()),
      "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "\x3a\x01*", &answer);
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_THAT(answer, HasSubstr("strata.v1.DraftService"));
  EXPECT_THAT(answer, HasSubstr("grpc.health.v1.Health"));
}

// The one test that turns it on, for servers started later are served with it too.
TEST_F(RpcTest, ChannelzIsServedWhereItIsAskedFor) {
  const std::string method = "/grpc.channelz.v1.Channelz/GetServers";
  grpc::Status status;
  const auto without = Start({});
  ASSERT_NE(without, nullptr);
  CallEmpty(without->address(), method, status);
  EXPECT_EQ(status.error_code(), grpc::UNIMPLEMENTED);
  const auto with = Start({.channelz = true});
  ASSERT_NE(with, nullptr);
  EXPECT_FALSE(CallEmpty(with->address(), method, status).empty());
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_TRUE(Call(with->address(), grpc::InsecureChannelCredentials()).ok());
}

TEST(RequestIdTest, IsShortAndOfPlainCharacters) {
  for (const std::string& id :
       {std::string("a"), std::string("A-1._:/+=@z"), std::string(kMaxRequestIdBytes, '9')}) {
    EXPECT_TRUE(IsRequestId(id)) << id;
  }
  for (const std::string& id :
       {std::string(), std::string("a b"), std::string("a\nb"), std::string("\"x\""),
        std::string("\xc3\xa4"), std::string("a\0b", 3), std::string("{}"),
        std::string(kMaxRequestIdBytes + 1, '9')}) {
    EXPECT_FALSE(IsRequestId(id)) << id;
  }
}

TEST_F(RpcTest, UnixSocket) {
  const auto server = Start({.listen = "unix:" + (folder_.path() / "socket").string()});
  ASSERT_NE(server, nullptr);
  EXPECT_TRUE(Call(server->address(), grpc::InsecureChannelCredentials()).ok());
}

TEST_F(RpcTest, WhatCannotBeServedIsSaid) {
  EXPECT_TRUE(absl::IsInvalidArgument(StartStatus({.listen = "nonsense"})));
  EXPECT_TRUE(absl::IsInvalidArgument(StartStatus({.listen = "host:"})));
  EXPECT_TRUE(absl::IsInvalidArgument(StartStatus({.listen = "127.0.0.1:65536"})));
  EXPECT_TRUE(absl::IsInvalidArgument(StartStatus({.max_threads = 0})));
  EXPECT_TRUE(absl::IsInvalidArgument(StartStatus({.max_receive_bytes = 0})));
  const auto server = Start({});
  ASSERT_NE(server, nullptr);
  EXPECT_TRUE(absl::IsUnavailable(StartStatus({.listen = server->address()})));
  const std::string cert = Write("c", kServerCertificate), text = Write("t", "text"),
                    empty = Write("e", "");
  EXPECT_TRUE(absl::IsInvalidArgument(StartStatus({.tls = {.cert_file = cert}})));
  EXPECT_TRUE(absl::IsInvalidArgument(StartStatus({.tls = {.ca_file = cert}})));
  EXPECT_TRUE(absl::IsInvalidArgument(StartStatus({.tls = {.cert_file = cert, .key_file = text}})));
  EXPECT_TRUE(
      absl::IsInvalidArgument(StartStatus({.tls = {.cert_file = cert, .key_file = empty}})));
  const std::string key = Write("k", kServerKey), stranger = Write("x", kStrangerKey),
                    damaged = Write("d", std::string(kServerCertificate).insert(200, "!"));
  const absl::Status other = StartStatus({.tls = {.cert_file = cert, .key_file = stranger}});
  EXPECT_TRUE(absl::IsInvalidArgument(other)) << other;
  EXPECT_THAT(std::string(other.message()), HasSubstr(stranger));
  const absl::Status broken = StartStatus({.tls = {.cert_file = damaged, .key_file = key}});
  EXPECT_TRUE(absl::IsInvalidArgument(broken)) << broken;
  EXPECT_THAT(std::string(broken.message()), HasSubstr(damaged));
  // A good certificate, then a damaged one.
  const std::string bundle =
      Write("b", absl::StrCat(kServerCertificate, std::string(kServerCertificate, 200), "\n"));
  EXPECT_THAT(std::string(StartStatus({.tls = {cert, key, bundle}}).message()),
              HasSubstr("certificate 2 cannot be read"));
  const absl::Status missing =
      StartStatus({.tls = {.cert_file = cert, .key_file = cert + ".missing"}});
  EXPECT_TRUE(absl::IsNotFound(missing));
  EXPECT_THAT(std::string(missing.message()), HasSubstr(".missing"));
}

TEST_F(RpcTest, MutualTlsAdmitsOnlyTheAuthoritysClients) {
  const TlsFiles server_files = {Write("sc", kServerCertificate), Write("sk", kServerKey),
                                 Write("ca", kClientCertificate)};
  const auto server = Start({.listen = "localhost:0", .tls = server_files});
  ASSERT_NE(server, nullptr);
  const auto call = [&](const TlsFiles& files) {
    const auto credentials = MakeChannelCredentials(files, /*use_tls=*/true);
    return credentials.ok() ? Call(server->address(), *credentials) : credentials.status();
  };
  const std::string ca = server_files.cert_file;
  const absl::Status good = call({server_files.ca_file, Write("ck", kClientKey), ca});
  EXPECT_TRUE(good.ok()) << good;
  EXPECT_TRUE(absl::IsUnavailable(call({"", "", ca}))) << "no certificate";
  EXPECT_TRUE(
      absl::IsUnavailable(call({Write("xc", kStrangerCertificate), Write("xk", kStrangerKey), ca})))
      << "a certificate of another authority";
  EXPECT_TRUE(absl::IsUnavailable(
      call({server_files.ca_file, folder_.path() / "ck", folder_.path() / "xc"})))
      << "a server of another authority";
  EXPECT_TRUE(absl::IsUnavailable(Call(server->address(), grpc::InsecureChannelCredentials())));
  EXPECT_TRUE(
      absl::IsInvalidArgument(MakeChannelCredentials({"", "", ca}, /*use_tls=*/false).status()));
}

TEST_F(RpcTest, OnlyClientsOfTheNamesGivenAreServed) {
  const TlsFiles files = {Write("sc", kServerCertificate), Write("sk", kServerKey),
                          Write("ca", kClientCertificate)};
  const auto credentials = MakeChannelCredentials(
      {files.ca_file, Write("ck", kClientKey), files.cert_file}, /*use_tls=*/true);
  ASSERT_TRUE(credentials.ok()) << credentials.status();
  const auto call = [&](std::vector<std::string> names) {
    const auto server =
        Start({.listen = "localhost:0", .tls = files, .client_names = std::move(names)});
    return server == nullptr ? absl::InternalError("") : Call(server->address(), *credentials);
  };
  EXPECT_TRUE(call({}).ok());
  EXPECT_TRUE(call({"localhost"}).ok());
  EXPECT_TRUE(call({"strata-verify", "127.0.0.1"}).ok());
  // The common name of a certificate that has alternative ones is not looked at.
  for (const char* name : {"strata-verify", "strata-test-client", "LOCALHOST", "local", "*"}) {
    const absl::Status refused = call({name});
    EXPECT_TRUE(absl::IsPermissionDenied(refused)) << name << ": " << refused;
    EXPECT_THAT(std::string(refused.message()), HasSubstr("certificate has no name"));
  }
  EXPECT_TRUE(absl::IsInvalidArgument(StartStatus({.client_names = {"localhost"}})));
  EXPECT_TRUE(absl::IsInvalidArgument(
      StartStatus({.tls = {.cert_file = files.cert_file, .key_file = files.key_file},
                   .client_names = {"localhost"}})));
}

TEST_F(RpcTest, TheExpiryOfTheCertificateInUseIsKnown) {
  EXPECT_EQ(Start({})->certificate_expiry(), absl::InfiniteFuture());
  const TlsFiles files = {.cert_file = Write("sc", kServerCertificate),
                          .key_file = Write("sk", kServerKey)};
  // As openssl x509 -enddate says.
  const absl::Time expiry = absl::FromUnixSeconds(4'948'991'954);
  EXPECT_EQ(Start({.listen = "localhost:0", .tls = files})->certificate_expiry(), expiry);
  EXPECT_EQ((*ReloadingChannelCredentials::Open({.ca_file = files.cert_file}, /*use_tls=*/true))
                ->certificate_expiry(),
            absl::InfiniteFuture());
  EXPECT_EQ((*ReloadingChannelCredentials::Open(files, /*use_tls=*/true))->certificate_expiry(),
            expiry);
}

TEST_F(RpcTest, ClientsChangeConnectionsOfAnAgeWithoutLosingACall) {
  const auto server = Start({.max_connection_age = absl::Milliseconds(200)});
  ASSERT_NE(server, nullptr);
  const auto stub = v1::DraftService::NewStub(
      grpc::CreateChannel(server->address(), grpc::InsecureChannelCredentials()));
  const absl::Time end = absl::Now() + absl::Seconds(20);
  int calls = 0;
  for (; service_.connections() < 4 && absl::Now() < end; ++calls) {
    grpc::ClientContext context;
    v1::GetDraftInfoResponse response;
    const grpc::Status status = stub->GetDraftInfo(&context, {}, &response);
    ASSERT_TRUE(status.ok()) << "call " << calls << ": " << status.error_message();
  }
  EXPECT_GE(service_.connections(), 4u) << "after " << calls << " calls";
}

TEST_F(RpcTest, ReplacedCertificatesServeNewConnectionsAndBrokenOnesDoNot) {
  const TlsFiles files = {Write("sc", kServerCertificate), Write("sk", kServerKey),
                          Write("ca", kClientCertificate)};
  const auto server = Start({.listen = "localhost:0", .tls = files});
  ASSERT_NE(server, nullptr);
  Write("ck", kClientKey);
  const auto call = [&](const char* server_certificate) {
    const std::string folder = folder_.path();
    const auto credentials = MakeChannelCredentials(
        {Write("cc", kClientCertificate), folder + "/ck", Write("trusted", server_certificate)},
        /*use_tls=*/true);
    return credentials.ok() ? Call(server->address(), *credentials) : credentials.status();
  };
  // Until it is so, or not for a long time.
  const auto becomes = [&](const char* server_certificate, bool good) {
    for (int i = 0; i < 100; ++i) {
      if (call(server_certificate).ok() == good) return true;
      absl::SleepFor(absl::Milliseconds(200));
    }
    return false;
  };
  EXPECT_TRUE(call(kServerCertificate).ok());
  // What is half replaced is not used: the certificate is not the key's.
  Write("sc", kStrangerCertificate);
  absl::SleepFor(absl::Milliseconds(1100));
  EXPECT_TRUE(call(kServerCertificate).ok());
  Write("sk", kStrangerKey);
  EXPECT_TRUE(becomes(kStrangerCertificate, true));
  EXPECT_FALSE(call(kServerCertificate).ok());
  for (const char* broken : {"", "no PEM", "-----BEGIN CERTIFICATE-----\n"}) {
    Write("sc", broken);
    absl::SleepFor(absl::Milliseconds(1100));
    EXPECT_TRUE(call(kStrangerCertificate).ok()) << broken;
  }
  // The clients' authorities are followed too.
  Write("sc", kStrangerCertificate);
  Write("ca", kServerCertificate);
  EXPECT_TRUE(becomes(kStrangerCertificate, false));
  Write("ca", kClientCertificate);
  EXPECT_TRUE(becomes(kStrangerCertificate, true));
}

TEST_F(RpcTest, ChannelCredentialsFollowTheirFiles) {
  const TlsFiles files = {.ca_file = Write("ca", kServerCertificate)};
  const auto credentials = ReloadingChannelCredentials::Open(files, /*use_tls=*/true);
  ASSERT_TRUE(credentials.ok()) << credentials.status();
  const auto first = (*credentials)->Get();
  EXPECT_EQ((*credentials)->Get(), first);
  Write("ca", "broken");
  absl::SleepFor(absl::Milliseconds(1100));
  EXPECT_EQ((*credentials)->Get(), first);
  Write("ca", kStrangerCertificate);
  absl::SleepFor(absl::Milliseconds(1100));
  EXPECT_NE((*credentials)->Get(), first);
}

TEST(LocalAddressTest, OnlyWhatStaysOnThisMachine) {
  for (const char* local :
       {"unix:/run/x", "localhost:1", "LocalHost:1", "127.0.0.1:0", "127.8.9.1:5", "[::1]:50061"}) {
    EXPECT_TRUE(IsLocalAddress(local)) << local;
  }
  for (const char* other :
       {"0.0.0.0:1", "[::]:1", "10.0.0.1:1", "127.example.com:1", "localhost.example.com:1",
        "verify:1", "", "127.0.0.1", "128.0.0.1:1", "dns:///localhost:1"}) {
    EXPECT_FALSE(IsLocalAddress(other)) << other;
  }
}

TEST(RpcStatusTest, EveryCodeGoesBothWaysAndLongMessagesAreCut) {
  for (int code = 0; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), code == 0 ? "" : "why");
    EXPECT_EQ(static_cast<int>(ToGrpcStatus(status).error_code()), code);
    EXPECT_EQ(FromGrpcStatus(ToGrpcStatus(status)), status);
  }
  EXPECT_EQ(ToGrpcStatus(absl::Status(static_cast<absl::StatusCode>(99), "x")).error_code(),
            grpc::UNKNOWN);
  // Two-byte characters after one of one byte: the limit falls inside a character.
  std::string text = "x";
  for (int i = 0; i < kMaxStatusMessageBytes; ++i) text += "\xc3\xa4";
  const std::string cut = ToGrpcStatus(absl::InternalError(text)).error_message();
  EXPECT_EQ(cut.size(), static_cast<size_t>(kMaxStatusMessageBytes) - 1);
  EXPECT_EQ(cut, text.substr(0, cut.size()));
}

TEST(ShutdownSignalTest, WaitsForSigtermAndTimesOut) {
  ASSERT_TRUE(BlockShutdownSignals().ok());
  EXPECT_EQ(WaitForShutdownSignal(absl::Milliseconds(5)), 0);
  // To this thread: gRPC threads of other tests have not blocked it.
  // NOLINTNEXTLINE(bugprone-bad-signal-to-kill-thread)
  ASSERT_EQ(pthread_kill(pthread_self(), SIGTERM), 0);
  EXPECT_EQ(WaitForShutdownSignal(absl::InfiniteDuration()), SIGTERM);
}

}  // namespace
}  // namespace strata::rpc
