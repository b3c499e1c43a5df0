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
#include <utility>
#include <vector>

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
#include "services/draft/corpus/corpus_holder.h"
#include "services/draft/hierarchy/hierarchy_drafter.h"
#include "services/draft/metrics/hierarchy_metrics.h"
#include "services/draft/server/draft_service.h"
#include "services/draft/server/flags.h"
#include "services/draft/server/service_metrics.h"
#include "services/draft/tiers/model_store.h"
#include "services/draft/tiers/periodic_saver.h"

namespace strata::draft {
namespace {

// What streams and calls of a connection that has reached --max-connection-age may still take.
constexpr absl::Duration kStreamGrace = absl::Seconds(1);

// `holder` stays null without a corpus.
absl::Status OpenCorpus(const Flags& flags, DrafterOptions& options,
                        std::shared_ptr<const CorpusHolder>& holder) {
  options.tokenizer_fingerprint = flags.tokenizer_fingerprint;
  if (flags.corpus.empty()) {
    spdlog::warn("there is no corpus (--corpus): drafting from contexts and model output alone");
    return absl::OkStatus();
  }
  CorpusHolderOptions corpus_options;
  corpus_options.dir = flags.corpus;
  corpus_options.cache_bytes = flags.block_cache_mb << 20;
  corpus_options.poll_interval = absl::Seconds(flags.corpus_poll_s);
  corpus_options.tokenizer_fingerprint = flags.tokenizer_fingerprint;
  auto corpus = CorpusHolder::Open(std::move(corpus_options));
  if (!corpus.ok()) return corpus.status();
  options.tokenizer_fingerprint = (*corpus)->tokenizer_fingerprint();
  options.corpus_info = [holder = *corpus] {
    const auto tier = holder->tier();
    return CorpusInfo{tier->snapshot_name(), tier->token_count()};
  };
  spdlog::info("corpus snapshot {}: {} tokens, tokenizer {}", (*corpus)->snapshot_name(),
               (*corpus)->token_count(), options.tokenizer_fingerprint);
  holder = *corpus;
  options.corpus = *std::move(corpus);
  return absl::OkStatus();
}

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

  DrafterOptions options;
  options.policy = flags.policy;
  options.limits = flags.limits;
  std::shared_ptr<const CorpusHolder> corpus;
  if (absl::Status status = OpenCorpus(flags, options, corpus); !status.ok()) return status;

  std::vector<std::string> warnings;
  auto store = ModelStore::Open(flags.model_store, &warnings);
  for (const std::string& warning : warnings) spdlog::warn("{}", warning);
  if (!store.ok()) return store.status();
  options.model_store = *std::move(store);
  const std::shared_ptr<ModelStore> model_store = options.model_store;
  const std::string fingerprint = options.corpus == nullptr ? "" : options.tokenizer_fingerprint;

  auto drafter = NewDrafter(std::move(options));
  if (!drafter.ok()) return drafter.status();
  // Before the service, so that the last save comes after every stream's output was learned.
  const PeriodicSaver saver(model_store.get(), absl::Seconds(flags.save_interval_s),
                            [&drafter] { (*drafter)->SaveCalibrations(); });
  DraftService service(drafter->get(), fingerprint, STRATA_VERSION, tracer->get());
  const auto service_metrics = (*exporter)->Add([&](metrics::Page& page) {
    CollectService(service, STRATA_VERSION, page);
    trace::CollectTracer(tracer->get(), "strata_draft", page);
    CollectHierarchy(**drafter, model_store.get(), corpus.get(), page);
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
  LogFeedback((*drafter)->Stats());
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
