#ifndef STRATA_COMMON_RPC_SERVING_H_
#define STRATA_COMMON_RPC_SERVING_H_

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/log/log.h"
#include "common/metrics/exporter.h"
#include "common/rpc/server.h"
#include "common/trace/tracer.h"

namespace strata::rpc {

// Exit code of a wrong command line.
inline constexpr int kUsageError = 2;

// What every service's command line says about serving.
struct ServingFlags {
  // Its max_receive_bytes is max_message_mb, its max_connection_age that below: see Options().
  ServerOptions server;
  int max_message_mb = 16;
  std::string port_file;
  std::string health_port_file;
  double drain_seconds = 5;
  // Seconds; 0: for ever.
  double max_connection_age = 0;
  std::string log_level = "info";
  log::Format log_format = log::Format::kText;
  metrics::ExporterOptions metrics;
  // Its max_file_bytes is trace_file_mb: see Tracing().
  trace::TracerOptions trace;
  uint64_t trace_file_mb = 256;

  // --listen, --port-file, --health-…, --max-message-mb, --tls-…, --max-connection-age,
  // --drain-seconds,
  // --log-…, --metrics-…, --trace-file…, --channelz.
  void AddTo(CLI::App& app);
  ServerOptions Options() const;
  trace::TracerOptions Tracing() const;
  absl::Duration drain() const { return absl::Seconds(drain_seconds); }
};

// Tells who waits for it that the service is up: writes the address to the port file, if there
// is one, the health listener's to its own, and prints "listening on ADDRESS" on standard output.
absl::Status Announce(const ServingFlags& flags, const Server& server);

// Runs a service: sets up logging to standard error, raises the limit of open files to what the
// system allows, blocks the shutdown signals, calls `serve` and logs its error. Returns the exit
// code: 0, or 1 for an error. Call it from main() before any thread starts.
int RunService(const std::string& name, const ServingFlags& flags,
               const std::function<absl::Status()>& serve);

}  // namespace strata::rpc

#endif  // STRATA_COMMON_RPC_SERVING_H_
