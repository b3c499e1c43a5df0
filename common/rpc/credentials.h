#ifndef STRATA_COMMON_RPC_CREDENTIALS_H_
#define STRATA_COMMON_RPC_CREDENTIALS_H_

#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/rpc/tls_material.h"

namespace strata::rpc {

struct ServerCredentials {
  // Must outlive the server.
  std::shared_ptr<grpc::ServerCredentials> credentials;
  // The files that they follow; null without TLS.
  std::shared_ptr<ReloadingTls> tls;
};

// Every handshake uses the files as they are then (OpenReloadingTls says which changes count);
// connections that exist go on as they are.
//
// With `client_names`, which need mutual TLS, every call of a client whose certificate has none of
// them ends with PERMISSION_DENIED. A certificate's names are its alternative names (DNS, URI, IP,
// e-mail), or its common name if it has none; they are compared as they stand, without wildcards.
//
// INVALID_ARGUMENT if the combination makes no sense or a file is no good, NOT_FOUND or the like if
// one cannot be read.
absl::StatusOr<ServerCredentials> MakeServerCredentials(const TlsFiles& files,
                                                        std::vector<std::string> client_names = {});

// With `use_tls` false all paths must be empty. With `use_tls` true they may be (server-side
// TLS checked against the system's authorities). Errors as above.
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeChannelCredentials(
    const TlsFiles& files, bool use_tls);

// Channel credentials that follow their files. A channel keeps those that it was made with, so
// whoever lives long asks again before it connects anew. Thread-safe.
class ReloadingChannelCredentials {
 public:
  // As MakeChannelCredentials.
  static absl::StatusOr<std::unique_ptr<ReloadingChannelCredentials>> Open(const TlsFiles& files,
                                                                           bool use_tls);
  // The same object as long as the files hold the same.
  std::shared_ptr<grpc::ChannelCredentials> Get() ABSL_LOCKS_EXCLUDED(mutex_);
  // When the certificate in use expires; the infinite future without one.
  absl::Time certificate_expiry() const {
    return tls_ == nullptr ? absl::InfiniteFuture() : tls_->Get()->not_after;
  }

 private:
  // `tls` is null without TLS.
  explicit ReloadingChannelCredentials(std::unique_ptr<ReloadingTls> tls);

  const std::unique_ptr<ReloadingTls> tls_;
  absl::Mutex mutex_;
  // What credentials_ were made of.
  std::shared_ptr<const TlsMaterial> material_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<grpc::ChannelCredentials> credentials_ ABSL_GUARDED_BY(mutex_);
};

// Whether what is sent to, or served on, `address` (HOST:PORT or unix:PATH) stays on this machine:
// a Unix socket, "localhost", or an address of the loopback interface.
bool IsLocalAddress(absl::string_view address);

}  // namespace strata::rpc

#endif  // STRATA_COMMON_RPC_CREDENTIALS_H_
