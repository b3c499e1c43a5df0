#ifndef STRATA_COMMON_RPC_TLS_MATERIAL_H_
#define STRATA_COMMON_RPC_TLS_MATERIAL_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/reloading.h"

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

// What TlsFiles name, as PEM; empty where no file is named.
struct TlsMaterial {
  std::string cert;
  std::string key;
  std::string ca;
  // When the first certificate in `cert` expires; the infinite future without one.
  absl::Time not_after = absl::InfiniteFuture();

  friend bool operator==(const TlsMaterial&, const TlsMaterial&) = default;
};

// Reads and checks the files: certificates and key can be parsed and belong together. NOT_FOUND or
// the like if a file cannot be read, INVALID_ARGUMENT with the file's name if it is no good.
absl::StatusOr<TlsMaterial> ReadTlsFiles(const TlsFiles& files);

using ReloadingTls = Reloading<TlsMaterial, TlsMaterial>;

// The files' content, followed while it changes. Broken or expired files that replace good ones are
// logged and not used; an expired certificate at the start is logged and used: there is no other,
// and the peers refuse it.
absl::StatusOr<std::unique_ptr<ReloadingTls>> OpenReloadingTls(const TlsFiles& files);

}  // namespace strata::rpc

#endif  // STRATA_COMMON_RPC_TLS_MATERIAL_H_
