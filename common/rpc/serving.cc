#include "common/rpc/serving.h"

#include <google/protobuf/stubs/logging.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdio>
#include <exception>

#include "absl/synchronization/mutex.h"
#include "common/base/atomic_file.h"
#include "common/base/file_limit.h"
#include "common/rpc/shutdown_signal.h"

namespace strata::rpc {

void ServingFlags::AddTo(CLI::App& app) {
  app.add_option("--listen", server.listen,
                 "Address to serve on: HOST:PORT (port 0: any free one) or unix:PATH")
      ->capture_default_str();
  app.add_option("--port-file", port_file,
                 "Write the address that is served to this file once it is");
  app.add_option("--health-listen", server.health_listen,
                 "Serve the health service alone on HOST:PORT too, without TLS, for probes that "
                 "cannot speak it (default: not at all)");
  app.add_option("--health-port-file", health_port_file,
                 "Write the address of --health-listen to this file once it is served");
  app.add_option("--max-message-mb", max_message_mb, "Longest message that is read, in MiB")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--tls-cert", server.tls.cert_file, "PEM certificate chain of this server");
  app.add_option("--tls-key", server.tls.key_file, "PEM private key of this server");
  app.add_option("--tls-client-ca", server.tls.ca_file,
                 "PEM authorities that clients' certificates must come from (mutual TLS)");
  app.add_option("--tls-client-name", server.client_names,
                 "Serve only clients whose certificate has this name, or one of these (may be "
                 "given several times; needs --tls-client-ca)")
      ->allow_extra_args(false);
  app.add_option("--max-connection-age", max_connection_age,
                 "Seconds, give or take a tenth, after which a client is told to make a new "
                 "connection, which may lead to another replica; 0: never")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  app.add_option("--drain-seconds", drain_seconds,
                 "After SIGTERM or SIGINT, how long calls under way may take to end")
      ->check(CLI::Range(0.0, 3600.0))
      ->capture_default_str();
  app.add_option("--log-level", log_level, "Least severe messages that are logged")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error", "off"}))
      ->capture_default_str();
  app.add_option_function<std::string>(
         "--log-format",
         [this](const std::string& format) {
           log_format = format == "json" ? log::Format::kJson : log::Format::kText;
         },
         "text; or json: one object a line, with time, level, service, message and fields")
      ->check(CLI::IsMember({"text", "json"}))
      ->default_str("text");
  app.add_option(
      "--metrics-listen", metrics.listen,
      "Serve metrics for Prometheus on HOST:PORT (port 0: any free one), at /metrics, in "
      "plain HTTP (default: not at all)");
  app.add_option("--metrics-port-file", metrics.port_file,
                 "Write the address that metrics are served on to this file once they are");
  app.add_option("--trace-file", trace.file,
                 "Append the spans of traced requests to this file, as OTLP JSON lines (default: "
                 "nothing is traced); a file for each process");
  app.add_option("--trace-file-mb", trace_file_mb,
                 "A trace file that would grow longer, in MiB, is renamed to FILE.1, in place of "
                 "an older one, and begun anew")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_flag("--channelz", server.channelz,
               "Serve gRPC's channelz (connections, streams, sockets) beside the service, to "
               "whoever may call it");
}

ServerOptions ServingFlags::Options() const {
  ServerOptions options = server;
  options.max_receive_bytes = max_message_mb << 20;
  options.max_buffered_bytes =
      std::max(options.max_buffered_bytes, 4 * static_cast<size_t>(options.max_receive_bytes));
  if (max_connection_age > 0) options.max_connection_age = absl::Seconds(max_connection_age);
  return options;
}

trace::TracerOptions ServingFlags::Tracing() const {
  trace::TracerOptions options = trace;
  options.max_file_bytes = trace_file_mb << 20;
  return options;
}

absl::Status Announce(const ServingFlags& flags, const Server& server) {
  // The service's own last: whoever waits for that finds both.
  if (!flags.health_port_file.empty()) {
    absl::Status status =
        WriteFileAtomically(flags.health_port_file, server.health_address() + "\n");
    if (!status.ok()) return status;
  }
  if (!flags.port_file.empty()) {
    absl::Status status = WriteFileAtomically(flags.port_file, server.address() + "\n");
    if (!status.ok()) return status;
  }
  std::printf("listening on %s\n", server.address().c_str());
  std::fflush(stdout);
  return absl::OkStatus();
}

int RunService(const std::string& name, const ServingFlags& flags,
               const std::function<absl::Status()>& serve) {
  // Only out-of-memory and the like is thrown.
  try {
    log::SetUp(name, spdlog::level::from_str(flags.log_level), flags.log_format);
    // It writes a line of its own for each message of a client that cannot be parsed. The client is
    // told (ParseRequest).
    google::protobuf::SetLogHandler(nullptr);
#if defined(NDEBUG)
    // As Debian builds it, Abseil follows the order of all locks, at a cost, and ends the process
    // where that order might once come to a deadlock. That is for tests: sanitizer builds keep it.
    absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
#endif
    // Seen with gRPC 1.51: where accept had failed for want of a file descriptor, nobody could
    // connect any more. That must not happen where the system would allow more.
    if (absl::Status raised = RaiseOpenFileLimit(); !raised.ok()) {
      spdlog::warn("{}", std::string(raised.message()));
    }
    absl::Status status = BlockShutdownSignals();
    if (status.ok()) status = serve();
    if (!status.ok()) {
      spdlog::critical("{}", std::string(status.message()));
      return 1;
    }
    spdlog::info("stopped");
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", name.c_str(), error.what());
    return 1;
  }
}

}  // namespace strata::rpc
