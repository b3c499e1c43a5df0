#ifndef STRATA_SERVICES_CLIENT_CONNECTION_H_
#define STRATA_SERVICES_CLIENT_CONNECTION_H_

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "strata/v1/generate.grpc.pb.h"

namespace strata::client {

// How to reach a verify service, or one of several that serve the same.
struct ConnectionFlags {
  std::string address = "127.0.0.1:50061";
  bool tls = false;
  std::string tls_ca;
  std::string tls_cert;
  std::string tls_key;
  // File that holds the bearer token; empty: the variable STRATA_TOKEN, and without it none.
  std::string token_file;
  // Longest time for one call, in seconds; 0 is no limit.
  double timeout_s = 0;
};

// `flags` must outlive `app`.
void AddConnectionFlags(CLI::App& app, ConnectionFlags& flags);

// Opens a channel, which spreads calls over the addresses that answer; it connects with the first
// call. An error names the TLS or token file at fault.
// A token is sent over TLS or within this machine alone: else INVALID_ARGUMENT.
absl::StatusOr<std::unique_ptr<v1::GenerateService::Stub>> Connect(const ConnectionFlags& flags);

}  // namespace strata::client

#endif  // STRATA_SERVICES_CLIENT_CONNECTION_H_
