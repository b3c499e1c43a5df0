#ifndef STRATA_COMMON_RPC_CREDENTIALS_H_
#define STRATA_COMMON_RPC_CREDENTIALS_H_

#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace strata::rpc {

// PEM files that secure one side of a connection. All paths empty: plain text.
struct TlsFiles {
  // Own certificate chain, leaf first, and its private key: both or neither.
  std::string cert_file;
  std::string key_file;
  // Certificate authorities that the peer's certificate must come from. On a server it turns on
  // mutual TLS (a client without a certificate is refused). On a client, empty means the system's
  // authorities.
  std::string ca_file;

  bool empty() const { return cert_file.empty() && key_file.empty() && ca_file.empty(); }
};

// INVALID_ARGUMENT if the combination makes no sense, NOT_FOUND or the like if a file cannot be
// read. That a file's content is not PEM is found by gRPC only when the server starts.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const TlsFiles& files);

// With `use_tls` false all paths must be empty. With `use_tls` true they may be (server-side
// TLS checked against the system's authorities).
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeChannelCredentials(
    const TlsFiles& files, bool use_tls);

}  // namespace strata::rpc

#endif  // STRATA_COMMON_RPC_CREDENTIALS_H_
