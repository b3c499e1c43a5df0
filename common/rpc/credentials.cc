#include "common/rpc/credentials.h"

#include <arpa/inet.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/host_port.h"

namespace strata::rpc {
namespace {

absl::Status CheckPair(const TlsFiles& files) {
  if (files.cert_file.empty() == files.key_file.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("TLS needs a certificate and its key together; only the ",
                   files.cert_file.empty() ? "key" : "certificate", " is given"));
}

// Decides by a call's client certificate, before any service sees the call.
class ClientNames {
 public:
  explicit ClientNames(std::vector<std::string> names) : names_(std::move(names)) {}

  // A grpc_auth_metadata_processor with this object as its state.
  static void Check(void* state, grpc_auth_context* context, const grpc_metadata*, size_t,
                    grpc_process_auth_metadata_done_cb done, void* user_data) {
    const bool admitted = static_cast<ClientNames*>(state)->Admits(context);
    done(user_data, nullptr, 0, nullptr, 0,
         admitted ? GRPC_STATUS_OK : GRPC_STATUS_PERMISSION_DENIED,
         admitted ? nullptr : "the client's certificate has no name that is allowed here");
  }
  static void Destroy(void* state) { delete static_cast<ClientNames*>(state); }

 private:
  bool Admits(const grpc_auth_context* context) const {
    grpc_auth_property_iterator it = grpc_auth_context_peer_identity(context);
    while (const grpc_auth_property* property = grpc_auth_property_iterator_next(&it)) {
      const absl::string_view name(property->value, property->value_length);
      if (std::ranges::find(names_, name) != names_.end()) return true;
    }
    return false;
  }

  const std::vector<std::string> names_;
};

// gRPC asks for the certificates at every handshake. Its C++ interface has only
// FileWatcherCertificateProvider for that, which refuses all connections once a file is broken
// (tried with 1.51), so this is what stands behind SslServerCredentials, with another source.
class ReloadingServerCredentials final : public grpc::ServerCredentials {
 public:
  ReloadingServerCredentials(std::shared_ptr<ReloadingTls> tls, bool mutual)
      : tls_(std::move(tls)),
        credentials_(grpc_ssl_server_credentials_create_with_options(
            grpc_ssl_server_credentials_create_options_using_config_fetcher(
                mutual ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                       : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE,
                &Fetch, this))) {}
  ~ReloadingServerCredentials() override { grpc_server_credentials_release(credentials_); }

  void AdmitOnly(std::vector<std::string> client_names) {
    auto admitted = std::make_unique<ClientNames>(std::move(client_names));
    // gRPC's from here on: it calls Destroy.
    grpc_server_credentials_set_auth_metadata_processor(
        credentials_, {&ClientNames::Check, &ClientNames::Destroy, admitted.release()});
  }

  // Strata's services look at metadata themselves (bearer.h).
  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  static grpc_ssl_certificate_config_reload_status Fetch(
      void* user_data, grpc_ssl_server_certificate_config** config) {
    return static_cast<ReloadingServerCredentials*>(user_data)->Fetch(config);
  }

  grpc_ssl_certificate_config_reload_status Fetch(grpc_ssl_server_certificate_config** config)
      ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    const std::shared_ptr<const TlsMaterial> now = tls_->Get();
    if (now == given_) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    grpc_ssl_pem_key_cert_pair pair = {now->key.c_str(), now->cert.c_str()};
    // gRPC insists on authorities also where no client is asked for a certificate; any will do
    // then.
    const std::string& authorities = now->ca.empty() ? now->cert : now->ca;
    *config = grpc_ssl_server_certificate_config_create(authorities.c_str(), &pair, 1);
    given_ = now;
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }

  const std::shared_ptr<ReloadingTls> tls_;
  absl::Mutex mutex_;
  // What gRPC was given last.
  std::shared_ptr<const TlsMaterial> given_ ABSL_GUARDED_BY(mutex_);
  grpc_server_credentials* const credentials_;
};

std::shared_ptr<grpc::ChannelCredentials> SslCredentials(const TlsMaterial& material) {
  return grpc::SslCredentials({.pem_root_certs = material.ca,
                               .pem_private_key = material.key,
                               .pem_cert_chain = material.cert});
}

}  // namespace

absl::StatusOr<ServerCredentials> MakeServerCredentials(const TlsFiles& files,
                                                        std::vector<std::string> client_names) {
  if (!client_names.empty() && files.ca_file.empty()) {
    return absl::InvalidArgumentError(
        "names of clients are given without a certificate authority for clients");
  }
  if (files.empty()) {
    return ServerCredentials{.credentials = grpc::InsecureServerCredentials(), .tls = nullptr};
  }
  if (absl::Status status = CheckPair(files); !status.ok()) return status;
  if (files.cert_file.empty()) {
    return absl::InvalidArgumentError(
        "a certificate authority for clients is given without the server's own certificate and "
        "key");
  }
  auto tls = OpenReloadingTls(files);
  if (!tls.ok()) return tls.status();
  const std::shared_ptr<ReloadingTls> shared = *std::move(tls);
  auto credentials = std::make_shared<ReloadingServerCredentials>(shared, !files.ca_file.empty());
  if (!client_names.empty()) credentials->AdmitOnly(std::move(client_names));
  return ServerCredentials{.credentials = std::move(credentials), .tls = shared};
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeChannelCredentials(
    const TlsFiles& files, bool use_tls) {
  auto credentials = ReloadingChannelCredentials::Open(files, use_tls);
  if (!credentials.ok()) return credentials.status();
  return (*credentials)->Get();
}

absl::StatusOr<std::unique_ptr<ReloadingChannelCredentials>> ReloadingChannelCredentials::Open(
    const TlsFiles& files, bool use_tls) {
  std::unique_ptr<ReloadingTls> tls;
  if (!use_tls) {
    if (!files.empty()) {
      return absl::InvalidArgumentError("TLS files are given for a connection without TLS");
    }
  } else {
    if (absl::Status status = CheckPair(files); !status.ok()) return status;
    auto opened = OpenReloadingTls(files);
    if (!opened.ok()) return opened.status();
    tls = *std::move(opened);
  }
  return std::unique_ptr<ReloadingChannelCredentials>(
      new ReloadingChannelCredentials(std::move(tls)));
}

ReloadingChannelCredentials::ReloadingChannelCredentials(std::unique_ptr<ReloadingTls> tls)
    : tls_(std::move(tls)) {
  if (tls_ == nullptr) credentials_ = grpc::InsecureChannelCredentials();
}

std::shared_ptr<grpc::ChannelCredentials> ReloadingChannelCredentials::Get() {
  absl::MutexLock lock(&mutex_);
  if (tls_ == nullptr) return credentials_;
  const std::shared_ptr<const TlsMaterial> now = tls_->Get();
  if (now != material_) {
    credentials_ = SslCredentials(*now);
    material_ = now;
  }
  return credentials_;
}

bool IsLocalAddress(absl::string_view address) {
  if (absl::StartsWith(address, "unix:")) return true;
  const std::optional<HostPort> parsed = ParseHostPort(address);
  if (!parsed.has_value()) return false;
  const std::string& host = parsed->host;
  if (absl::EqualsIgnoreCase(host, "localhost")) return true;
  in_addr v4;
  // Four numbers: "127.example.com" is a host's name.
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
  in6_addr v6;
  return inet_pton(AF_INET6, host.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

}  // namespace strata::rpc
