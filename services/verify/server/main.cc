// strata-verify: the verify service. See --help and services/verify/README.md.
//
// Prints "listening on HOST:PORT" on standard output once it serves; logs to standard error. Ends
// with 0 after SIGTERM or SIGINT, at once while it still starts; 1 if it cannot start, 2 for a
// wrong command line.

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/auth/token_table.h"
#include "common/base/steady_clock.h"
#include "common/metrics/exporter.h"
#include "common/metrics/process_metrics.h"
#include "common/rpc/server.h"
#include "common/rpc/serving.h"
#include "common/rpc/shutdown_signal.h"
#include "common/rpc/starting.h"
#include "common/rpc/tls_metrics.h"
#include "common/tokenizer/chat_template.h"
#include "common/tokenizer/tokenizer.h"
#include "common/trace/trace_metrics.h"
#include "common/trace/tracer.h"
#include "services/draft/hierarchy/hierarchy_drafter.h"
#include "services/draft/hosting/hosted_hierarchy.h"
#include "services/draft/metrics/hierarchy_metrics.h"
#include "services/verify/drafting/embedded_draft_source.h"
#include "services/verify/drafting/remote_draft_source.h"
#include "services/verify/engine/engine.h"
#include "services/verify/engine/own_thread.h"
#include "services/verify/scheduler/scheduler.h"
#include "services/verify/server/engine_status.h"
#include "services/verify/server/flags.h"
#include "services/verify/server/generate_service.h"
#include "services/verify/server/request_gate.h"
#include "services/verify/server/request_reader.h"
#include "services/verify/server/verify_metrics.h"

namespace strata::verify {
namespace {

// Larger steps are estimated from these, then learned.
constexpr int64_t kMostMeasuredRows = 128;

std::string VerifierId() {
  char host[256] = "verifier";
  gethostname(host, sizeof(host) - 1);
  // A restarted process must not be taken for its predecessor.
  return absl::StrCat(std::string(host).substr(0, 64), ":", getpid(), ":", std::random_device{}());
}

std::string ModelId(const Flags& flags) {
  if (!flags.model_id.empty()) return flags.model_id;
  std::filesystem::path path = std::filesystem::path(flags.engine.model_dir).lexically_normal();
  if (path.filename().empty()) path = path.parent_path();
  const std::string name = path.filename().string();
  return name.empty() ? "model" : name;
}

// What a remote source falls back to: the context tier alone, in this process.
absl::StatusOr<std::unique_ptr<DraftSource>> MakeFallback(const DraftIdentity& identity,
                                                          absl::Duration deadline) {
  auto drafter = draft::NewDrafter({});
  if (!drafter.ok()) return drafter.status();
  return NewEmbeddedDraftSource(std::shared_ptr<draft::Drafter>(*std::move(drafter)), identity,
                                deadline);
}

// Gives one channel as long as the certificates stay the same.
std::function<std::shared_ptr<grpc::Channel>()> DraftChannels(
    const std::string& address, std::shared_ptr<rpc::ReloadingChannelCredentials> credentials) {
  return [address, credentials = std::move(credentials),
          used = std::shared_ptr<grpc::ChannelCredentials>(),
          channel = std::shared_ptr<grpc::Channel>()]() mutable {
    if (auto now = credentials->Get(); now != used) {
      channel = NewDraftChannel(address, now);
      used = std::move(now);
    }
    return channel;
  };
}

absl::StatusOr<std::unique_ptr<DraftSource>> MakeRemoteSource(
    const Flags& flags, const DraftIdentity& identity,
    std::shared_ptr<rpc::ReloadingChannelCredentials> credentials) {
  const absl::Duration deadline = absl::Milliseconds(flags.draft_deadline_ms);
  auto fallback = MakeFallback(identity, deadline);
  if (!fallback.ok()) return fallback.status();
  RemoteDraftOptions options;
  options.deadline = deadline;
  options.ahead_nodes = flags.draft_ahead_nodes;
  options.renew_channel = DraftChannels(flags.draft_address, std::move(credentials));
  auto channel = options.renew_channel();
  return NewRemoteDraftSource(std::move(channel), identity, options, *std::move(fallback));
}

// `draft_credentials` may be null.
void CollectCertificates(const rpc::Server& server,
                         const rpc::ReloadingChannelCredentials* draft_credentials,
                         metrics::Page& page) {
  rpc::CollectCertificate("strata_verify", "server", server.certificate_expiry(), page);
  if (draft_credentials == nullptr) return;
  rpc::CollectCertificate("strata_verify", "draft_client", draft_credentials->certificate_expiry(),
                          page);
}

absl::Status Serve(const Flags& flags) {
  if (absl::Status status = ValidateSchedulerOptions(flags.scheduler); !status.ok()) return status;
  auto starting = rpc::Starting::Begin();
  if (!starting.ok()) return starting.status();
  auto exporter = metrics::Exporter::Start(flags.serving.metrics);
  if (!exporter.ok()) return exporter.status();
  const auto process_metrics = (*exporter)->Add(metrics::CollectProcess);

  // Outlives all that records spans.
  auto tracer = trace::Tracer::Start(flags.serving.Tracing(), {"strata-verify", STRATA_VERSION});
  if (!tracer.ok()) return tracer.status();

  // Cheap checks first: loading a model takes seconds.
  std::optional<RequestGate> gate;
  if (!flags.auth_tokens.empty()) {
    auto tokens = auth::OpenTokenFile(flags.auth_tokens, flags.quotas);
    if (!tokens.ok()) return tokens.status();
    gate.emplace(*std::move(tokens));
  }
  if (auto tls = rpc::ReadTlsFiles(flags.serving.server.tls); !tls.ok()) return tls.status();
  auto tokenizer = Tokenizer::Load(flags.engine.model_dir);
  if (!tokenizer.ok()) return tokenizer.status();
  auto chat_template = ChatTemplate::Load(flags.engine.model_dir);
  if (!chat_template.ok() && !absl::IsNotFound(chat_template.status())) {
    return chat_template.status();
  }
  std::optional<draft::HostedHierarchy> hierarchy;
  if (flags.draft == "embedded") {
    // The draft source compares its tokenizer with that of the model.
    auto opened = draft::OpenHierarchy(flags.hierarchy, {}, /*tokenizer_fingerprint=*/"");
    if (!opened.ok()) return opened.status();
    hierarchy = *std::move(opened);
  }

  spdlog::info("loading {}", flags.engine.model_dir);
  auto engine = engine::Engine::Load(flags.engine);
  if (!engine.ok()) return ToAbslStatus(engine.status());
  const engine::EngineInfo& info = (*engine)->info();
  if ((*tokenizer)->vocab_size() > info.vocab_size) {
    return absl::FailedPreconditionError(absl::StrCat(
        flags.engine.model_dir, ": the tokenizer has ids up to ", (*tokenizer)->vocab_size() - 1,
        ", the model ", info.vocab_size, " embeddings; they do not belong together"));
  }
  for (const std::string& note : info.exactness_notes) spdlog::info("exactness: {}", note);
  if (!info.exact) {
    const std::string what =
        "the self-check does not vouch that drafts cannot change a token on this machine";
    if (flags.require_exact) {
      return absl::FailedPreconditionError(absl::StrCat(what, ", and --require-exact wants that"));
    }
    spdlog::warn("{}", what);
  }

  DraftIdentity identity;
  identity.verifier_id = VerifierId();
  identity.model_id = ModelId(flags);
  identity.tokenizer_fingerprint = (*tokenizer)->fingerprint();
  identity.vocab_size = info.vocab_size;
  absl::StatusOr<std::unique_ptr<DraftSource>> source = NewNoDraftSource();
  // Null without a remote source.
  std::shared_ptr<rpc::ReloadingChannelCredentials> draft_credentials;
  // Outlives the scheduler, so that the last save comes after the last output was learned.
  std::unique_ptr<draft::PeriodicSaver> saver;
  if (hierarchy) {
    saver = hierarchy->StartSaving(flags.hierarchy);
    source = NewEmbeddedDraftSource(hierarchy->drafter, identity,
                                    absl::Milliseconds(flags.draft_deadline_ms));
  } else if (flags.draft == "remote") {
    auto credentials =
        rpc::ReloadingChannelCredentials::Open(flags.draft_tls_files, flags.draft_tls);
    if (!credentials.ok()) return credentials.status();
    draft_credentials = *std::move(credentials);
    source = MakeRemoteSource(flags, identity, draft_credentials);
  }
  if (!source.ok()) return source.status();

  StepCost cost;
  if (flags.draft != "off" && flags.scheduler.measured_budget) {
    const int64_t rows = std::min(kMostMeasuredRows,
                                  flags.scheduler.max_batch + int64_t{flags.scheduler.draft_nodes});
    engine::Status status;
    engine::RunOnOwnThread([&] { status = MeasureStepCost(**engine, rows, cost); });
    if (!status.ok()) {
      spdlog::warn("the cost of steps could not be measured: {}", status.message());
    } else {
      spdlog::info("a step of 1, 8, 16, {} rows takes {:.1f}, {:.1f}, {:.1f}, {:.1f} ms", rows,
                   1e3 * cost.Estimate(1, 0), 1e3 * cost.Estimate(8, 0), 1e3 * cost.Estimate(16, 0),
                   1e3 * cost.Estimate(rows, 0));
    }
  }
  Scheduler scheduler(flags.scheduler, **engine, **tokenizer, *std::move(source), std::move(cost));
  RequestLimits limits;
  limits.default_max_tokens = flags.default_max_tokens;
  limits.max_draft_nodes = flags.scheduler.max_draft_nodes;
  limits.max_predicted_tokens =
      std::min(limits.max_predicted_tokens, static_cast<size_t>(info.max_sequence_length));
  const RequestReader reader(**tokenizer, chat_template.ok() ? chat_template->get() : nullptr,
                             info.vocab_size, info.eos_token_ids, limits);
  GenerateService service(scheduler, **engine, reader,
                          {identity.model_id, identity.tokenizer_fingerprint, STRATA_VERSION},
                          gate ? &*gate : nullptr, {tracer->get(), flags.trace_sample});
  const auto service_metrics = (*exporter)->Add([&](metrics::Page& page) {
    CollectVerify(scheduler, **engine, service.counters(), service.identity(), page);
    trace::CollectTracer(tracer->get(), "strata_verify", page);
    if (!hierarchy) return;
    CollectHierarchy(*hierarchy->drafter, hierarchy->model_store.get(), hierarchy->corpus.get(),
                     page);
  });
  // From here on a signal drains.
  starting->reset();
  const std::array<grpc::Service*, 1> services = {&service};
  auto server = rpc::Server::Start(flags.serving.Options(), services);
  if (!server.ok()) return server.status();
  const auto server_metrics = (*exporter)->Add(
      [&](metrics::Page& page) { CollectCertificates(**server, draft_credentials.get(), page); });
  if (absl::Status status = rpc::Announce(flags.serving, **server); !status.ok()) return status;

  const int signal_number = rpc::WaitForShutdownSignal(absl::InfiniteDuration());
  spdlog::info("signal {}: draining", signal_number);
  const absl::Time deadline = SteadyNow() + flags.serving.drain();
  (*server)->SetServing(false);
  scheduler.StopAdmission();
  if (!scheduler.WaitIdle(deadline - SteadyNow())) {
    spdlog::warn("answers still under way after {} s are cancelled", flags.serving.drain_seconds);
  }
  // Handlers still have to write what the scheduler has made.
  (*server)->Shutdown(std::max(absl::Seconds(1), deadline - SteadyNow()));
  return absl::OkStatus();
}

}  // namespace
}  // namespace strata::verify

int main(int argc, char** argv) {
  int exit_code = 0;
  const auto flags = strata::verify::ParseFlags(argc, argv, &exit_code);
  if (!flags.has_value()) return exit_code;
  return strata::rpc::RunService("strata-verify", flags->serving,
                                 [&] { return strata::verify::Serve(*flags); });
}
