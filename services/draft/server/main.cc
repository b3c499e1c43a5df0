// strata-draft: the draft service. See --help and services/draft/README.md.
//
// Prints "listening on HOST:PORT" on standard output once it serves; logs to standard error. Ends
// with 0 after SIGTERM or SIGINT, at once while it still starts; 1 if it cannot start, 2 for a
// wrong command line.

#include <malloc.h>
#include <spdlog/spdlog.h>

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/metrics/exporter.h"
#include "common/metrics/process_metrics.h"
#include "common/rpc/server.h"
#include "common/rpc/serving.h"
#include "common/rpc/shutdown_signal.h"
#include "common/rpc/starting.h"
#include "common/rpc/tls_metrics.h"
#include "common/trace/trace_metrics.h"
#include "common/trace/tracer.h"
#include "services/draft/hierarchy/drafter.h"
#include "services/draft/hosting/hosted_hierarchy.h"
#include "services/draft/metrics/hierarchy_metrics.h"
#include "services/draft/server/draft_service.h"
#include "services/draft/server/flags.h"
#include "services/draft/server/service_metrics.h"

namespace strata::draft {
namespace {

// What streams and calls of a connection that has reached --max-connection-age may still take.
constexpr absl::Duration kStreamGrace = absl::Seconds(1);

void LogFeedback(const DrafterStats& stats) {
  for (int i = 1; i < kTierKinds; ++i) {
    if (stats.judged_nodes[i] == 0) continue;
    spdlog::info("{}: {} of {} verified nodes were right", TierName(static_cast<TierKind>(i)),
                 stats.accepted_nodes[i], stats.judged_nodes[i]);
  }
}

absl::Status Serve(const Flags& flags) {
  auto starting = rpc::Starting::Begin();
  if (!starting.ok()) return starting.status();
  auto exporter = metrics::Exporter::Start(flags.serving.metrics);
  if (!exporter.ok()) return exporter.status();
  const auto process_metrics = (*exporter)->Add(metrics::CollectProcess);

  auto tracer = trace::Tracer::Start(flags.serving.Tracing(), {"strata-draft", STRATA_VERSION});
  if (!tracer.ok()) return tracer.status();

  if (flags.hierarchy.corpus.empty()) {
    spdlog::warn("there is no corpus (--corpus): drafting from contexts and model output alone");
  }
  auto hierarchy = OpenHierarchy(flags.hierarchy, flags.limits, flags.tokenizer_fingerprint);
  if (!hierarchy.ok()) return hierarchy.status();
  const auto& [corpus, model_store, drafter] = *hierarchy;
  const std::string fingerprint = corpus == nullptr ? "" : corpus->tokenizer_fingerprint();
  // Before the service, so that the last save comes after every stream's output was learned.
  const auto saver = hierarchy->StartSaving(flags.hierarchy);
  DraftService service(drafter.get(), fingerprint, STRATA_VERSION, tracer->get());
  const auto service_metrics = (*exporter)->Add([&](metrics::Page& page) {
    CollectService(service, STRATA_VERSION, page);
    trace::CollectTracer(tracer->get(), "strata_draft", page);
    CollectHierarchy(*hierarchy->drafter, hierarchy->model_store.get(), hierarchy->corpus.get(),
                     page);
  });
  // From here on a signal drains.
  starting->reset();
  const std::array<grpc::Service*, 1> services = {&service};
  rpc::ServerOptions server_options = flags.serving.Options();
  // A verifier's stream has no end of its own.
  server_options.connection_age_grace = kStreamGrace;
  auto server = rpc::Server::Start(server_options, services);
  if (!server.ok()) return server.status();
  const auto server_metrics = (*exporter)->Add([&server](metrics::Page& page) {
    rpc::CollectCertificate("strata_draft", "server", (*server)->certificate_expiry(), page);
  });
  if (absl::Status status = rpc::Announce(flags.serving, **server); !status.ok()) return status;

  const int signal_number = rpc::WaitForShutdownSignal(absl::InfiniteDuration());
  spdlog::info("signal {}: draining", signal_number);
  (*server)->SetServing(false);
  service.Drain();
  (*server)->Shutdown(flags.serving.drain());
  LogFeedback(drafter->Stats());
  return absl::OkStatus();
}

}  // namespace
}  // namespace strata::draft

int main(int argc, char** argv) {
  // What one stream's thread allocates another's frees. With glibc's eight arenas a core, memory
  // crept from 154 to 234 MiB over 400,000 sequences that held ever the same; with few it stays.
  mallopt(M_ARENA_MAX, 2);
  int exit_code = 0;
  const auto flags = strata::draft::ParseFlags(argc, argv, &exit_code);
  if (!flags.has_value()) return exit_code;
  return strata::rpc::RunService("strata-draft", flags->serving,
                                 [&] { return strata::draft::Serve(*flags); });
}
