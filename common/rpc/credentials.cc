#include "common/rpc/credentials.h"

#include <cerrno>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace strata::rpc {
namespace {

absl::StatusOr<std::string> ReadPem(const std::string& path, const char* what) {
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  std::ostringstream content;
  if (in) content << in.rdbuf();
  if (!in || content.str().empty()) {
    const std::string message = absl::StrCat("cannot read the ", what, " file '", path, "'");
    if (errno == 0) return absl::InvalidArgumentError(absl::StrCat(message, ": it is empty"));
    return absl::ErrnoToStatus(errno, message);
  }
  std::string pem = content.str();
  if (pem.find("-----BEGIN ") == std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat("the ", what, " file '", path, "' is not PEM"));
  }
  return pem;
}

absl::Status CheckPair(const TlsFiles& files) {
  if (files.cert_file.empty() == files.key_file.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("TLS needs a certificate and its key together; only the ",
                   files.cert_file.empty() ? "key" : "certificate", " is given"));
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const TlsFiles& files) {
  if (files.empty()) return grpc::InsecureServerCredentials();
  if (absl::Status status = CheckPair(files); !status.ok()) return status;
  if (files.cert_file.empty()) {
    return absl::InvalidArgumentError(
        "a certificate authority for clients is given without the server's own certificate and "
        "key");
  }
  auto key = ReadPem(files.key_file, "TLS key");
  if (!key.ok()) return key.status();
  auto cert = ReadPem(files.cert_file, "TLS certificate");
  if (!cert.ok()) return cert.status();
  grpc::SslServerCredentialsOptions options;
  if (!files.ca_file.empty()) {
    auto ca = ReadPem(files.ca_file, "TLS certificate authority");
    if (!ca.ok()) return ca.status();
    options.pem_root_certs = *std::move(ca);
    options.client_certificate_request = GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
  }
  options.pem_key_cert_pairs.push_back({*std::move(key), *std::move(cert)});
  return grpc::SslServerCredentials(options);
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeChannelCredentials(
    const TlsFiles& files, bool use_tls) {
  if (!use_tls) {
    if (!files.empty()) {
      return absl::InvalidArgumentError("TLS files are given for a connection without TLS");
    }
    return grpc::InsecureChannelCredentials();
  }
  if (absl::Status status = CheckPair(files); !status.ok()) return status;
  grpc::SslCredentialsOptions options;
  if (!files.ca_file.empty()) {
    auto ca = ReadPem(files.ca_file, "TLS certificate authority");
    if (!ca.ok()) return ca.status();
    options.pem_root_certs = *std::move(ca);
  }
  if (!files.cert_file.empty()) {
    auto key = ReadPem(files.key_file, "TLS key");
    if (!key.ok()) return key.status();
    auto cert = ReadPem(files.cert_file, "TLS certificate");
    if (!cert.ok()) return cert.status();
    options.pem_private_key = *std::move(key);
    options.pem_cert_chain = *std::move(cert);
  }
  return grpc::SslCredentials(options);
}

}  // namespace strata::rpc
