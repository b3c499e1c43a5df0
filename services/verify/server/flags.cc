#include "services/verify/server/flags.h"

#include <CLI/CLI.hpp>
#include <string>

#include "common/config/configuration.h"

namespace strata::verify {
namespace {

void AddServing(CLI::App& app, Flags& flags) {
  flags.serving.AddTo(app);
  app.add_option("--serving-threads", flags.serving.server.max_threads,
                 "Most threads that serve calls; an answer, and a request that waits, holds one "
                 "(default: --max-batch + --max-queue + 16)")
      ->check(CLI::Range(4, 65536));
}

void AddTracing(CLI::App& app, Flags& flags) {
  app.add_option("--trace-sample", flags.trace_sample,
                 "Share of the requests without a trace of their client's (traceparent) that are "
                 "traced; those with one are if it says sampled")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
}

void AddAuthentication(CLI::App& app, Flags& flags) {
  app.add_option("--auth-tokens", flags.auth_tokens,
                 "JSON file of the bearer tokens that clients must show, by their SHA-256, and of "
                 "the tenants that they speak for; read again when it changes");
  app.add_flag("--insecure-auth", flags.insecure_auth,
               "Take tokens without TLS on an address that is not this machine's alone");
  app.add_option("--quota-concurrent", flags.quotas.concurrent_requests,
                 "Most requests under way of a tenant whose tokens do not say; 0: no bound")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  app.add_option("--quota-requests", flags.quotas.requests_per_minute,
                 "Most requests a minute of a tenant whose tokens do not say; 0: no bound")
      ->check(CLI::Range(0, 1 << 30))
      ->capture_default_str();
  app.add_option("--quota-tokens", flags.quotas.tokens_per_minute,
                 "Most tokens a minute, prompt and output, of a tenant whose tokens do not say; "
                 "0: no bound")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 50))
      ->capture_default_str();
}

void AddModel(CLI::App& app, Flags& flags, std::string& dtype) {
  app.add_option("--model", flags.engine.model_dir,
                 "Model folder: config.json, *.safetensors, tokenizer.json")
      ->required();
  app.add_option("--model-id", flags.model_id,
                 "Names the model in GetModelInfo and keys its model tier (default: the folder's "
                 "name)");
  app.add_option("--dtype", dtype, "Type of weights, activations and KV cache")
      ->check(CLI::IsMember({"bf16", "fp32"}))
      ->capture_default_str();
  app.add_option_function<std::string>(
         "--weights",
         [&flags](const std::string& weights) { flags.engine.int8_weights = weights == "int8"; },
         "How linear layers hold their weights: native (as --dtype says) or int8, which is faster "
         "on CPUs with AVX-512 VNNI and gives other tokens, the same with and without drafts")
      ->check(CLI::IsMember({"native", "int8"}))
      ->default_str("native");
  app.add_option("--device", flags.engine.device,
                 "Where the model runs: cpu, or in a build with CUDA also cuda or cuda:N")
      ->capture_default_str();
  app.add_option("--threads", flags.engine.threads,
                 "Threads of a forward pass on the CPU, and that draw its tokens; 0 is one a core, "
                 "beside a GPU at most 4")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--kv-tokens", flags.engine.kv_tokens,
                 "Room in the KV cache, in tokens over all sequences")
      ->check(CLI::Range(int64_t{16}, int64_t{1} << 32))
      ->capture_default_str();
  app.add_option("--max-sequence-length", flags.engine.max_sequence_length,
                 "Longest sequence, prompt and output; 0 is the model's own limit")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 24))
      ->capture_default_str();
  app.add_flag("!--no-self-check", flags.engine.self_check,
               "Start without the row-invariance check (GetModelInfo then says exact: false)");
  app.add_flag("--require-exact", flags.require_exact,
               "Do not start where that check does not vouch that drafts change no token (without "
               "this: serve, with a warning)");
}

void AddScheduling(CLI::App& app, Flags& flags) {
  app.add_option("--max-batch", flags.scheduler.max_batch, "Most sequences in one forward pass")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--max-queue", flags.scheduler.max_queue, "Most requests that wait for room")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--prefill-chunk", flags.scheduler.prefill_chunk,
                 "Most prompt tokens in one forward pass")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_option("--prefix-cache", flags.scheduler.prefix_cache_share,
                 "Share of the KV cache that may keep what requests began with for later ones that "
                 "begin alike, until the room is needed; 0: none")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  app.add_option("--default-max-tokens", flags.default_max_tokens,
                 "Tokens for a request that does not say")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
}

void AddDrafting(CLI::App& app, Flags& flags, std::string& budget) {
  app.add_option("--draft", flags.draft,
                 "Where drafts come from: embedded (a hierarchy in this process), remote or off "
                 "(default: remote if --draft-address is given, else embedded)")
      ->check(CLI::IsMember({"embedded", "remote", "off"}));
  app.add_option("--draft-address", flags.draft_address,
                 "Draft service: HOST:PORT or unix:PATH; several replicas: dns:///NAME:PORT or "
                 "ipv4:HOST:PORT,HOST:PORT");
  app.add_option("--draft-deadline-ms", flags.draft_deadline_ms,
                 "Longest wait for the drafts of a step")
      ->check(CLI::Range(0.1, 10000.0))
      ->capture_default_str();
  app.add_option("--draft-ahead", flags.draft_ahead_nodes,
                 "With a draft service: nodes of the tree that it drafts ahead for a request while "
                 "a step runs, so that many drafts need not be waited for; 0: none")
      ->check(CLI::Range(0, 256))
      ->capture_default_str();
  app.add_option("--draft-nodes", flags.scheduler.draft_nodes,
                 "Most draft nodes a step of a request that does not say")
      ->check(CLI::Range(0, 256))
      ->capture_default_str();
  app.add_option("--max-draft-nodes", flags.scheduler.max_draft_nodes,
                 "Most draft nodes a step that a request may ask for")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--draft-budget", budget,
                 "measured: verify the draft nodes that pay for their rows, by what steps cost on "
                 "this machine; fixed: all that are drafted")
      ->check(CLI::IsMember({"measured", "fixed"}))
      ->capture_default_str();
  app.add_option("--slowed-share", flags.scheduler.slowed_share,
                 "With that, the share of requests that may be slower than without drafts, since "
                 "they share steps with requests that gain more; 1: only the tokens a second of "
                 "all count")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  app.add_option("--recycle", flags.scheduler.recycled_tokens,
                 "Next tokens of each verified row, accepted or not, that are told to the draft "
                 "hierarchy as candidates (Token Recycling); 0: none")
      ->check(CLI::Range(0, RowRanking::kMaxTokens))
      ->capture_default_str();
  app.add_flag("--recycle-prompts", flags.scheduler.recycle_prompts,
               "Also of the rows of prompts; their logits make prompts slower");
  app.add_flag("--draft-tls", flags.draft_tls, "Use TLS towards the draft service");
  app.add_option("--draft-tls-ca", flags.draft_tls_files.ca_file,
                 "PEM authorities that the draft service's certificate must come from");
  app.add_option("--draft-tls-cert", flags.draft_tls_files.cert_file,
                 "PEM certificate chain shown to the draft service");
  app.add_option("--draft-tls-key", flags.draft_tls_files.key_file, "PEM private key for it");
  flags.hierarchy.AddTo(app, "With --draft embedded, as of strata-draft");
}

// Tokens that travel in the clear are anybody's.
void CheckAuthentication(const Flags& flags) {
  if (flags.auth_tokens.empty()) {
    if (flags.quotas == auth::Quotas()) return;
    throw CLI::ValidationError("--quota-concurrent, --quota-requests, --quota-tokens",
                               "need --auth-tokens: without it a tenant is whatever a client says");
  }
  if (!flags.serving.server.tls.cert_file.empty() || flags.insecure_auth ||
      rpc::IsLocalAddress(flags.serving.server.listen)) {
    return;
  }
  throw CLI::ValidationError("--auth-tokens",
                             "needs TLS (--tls-cert, --tls-key) to serve on " +
                                 flags.serving.server.listen +
                                 ", or anybody on the way can read the tokens; --insecure-auth "
                                 "allows it where something else protects the connections");
}

// What CLI11 cannot check option by option, and defaults that follow from other options.
void CheckTogether(CLI::App& app, Flags& flags) {
  CheckAuthentication(flags);
  if (flags.draft.empty()) flags.draft = flags.draft_address.empty() ? "embedded" : "remote";
  app.get_option("--draft")->default_str(flags.draft);
  if (flags.serving.server.max_threads == 0) {
    flags.serving.server.max_threads = flags.scheduler.max_batch + flags.scheduler.max_queue + 16;
  }
  app.get_option("--serving-threads")
      ->default_str(std::to_string(flags.serving.server.max_threads));
  if (flags.require_exact && !flags.engine.self_check) {
    throw CLI::ValidationError("--require-exact",
                               "needs the check that --no-self-check leaves out");
  }
  if (flags.serving.server.channelz && !flags.auth_tokens.empty() &&
      !rpc::IsLocalAddress(flags.serving.server.listen)) {
    throw CLI::ValidationError("--channelz",
                               "tells who is connected to anybody, also without a token; with "
                               "--auth-tokens it goes with an address of this machine's alone");
  }
  if (flags.trace_sample > 0 && flags.serving.trace.file.empty()) {
    throw CLI::ValidationError("--trace-sample", "needs --trace-file");
  }
  if (flags.draft == "remote" && flags.draft_address.empty()) {
    throw CLI::ValidationError("--draft", "remote needs --draft-address");
  }
  if (flags.draft != "remote" && !flags.draft_address.empty()) {
    throw CLI::ValidationError("--draft-address", "goes with --draft remote alone");
  }
  if (flags.draft != "embedded" &&
      !(flags.hierarchy.corpus.empty() && flags.hierarchy.model_store.dir.empty())) {
    throw CLI::ValidationError("--corpus, --model-tier-dir",
                               "go with --draft embedded alone; with a remote draft service they "
                               "are its own");
  }
}

}  // namespace

std::optional<Flags> ParseFlags(int argc, char** argv, int* exit_code) {
  Flags flags;
  flags.serving.server.listen = "127.0.0.1:50061";
  flags.serving.drain_seconds = 30;
  flags.serving.server.max_threads = 0;
  std::string dtype = "bf16";
  std::string budget = "measured";
  CLI::App app("strata-verify: generates text with a model, verifying whole trees of drafts.");
  app.set_version_flag("--version", STRATA_VERSION);
  AddServing(app, flags);
  AddTracing(app, flags);
  AddAuthentication(app, flags);
  AddModel(app, flags, dtype);
  AddScheduling(app, flags);
  AddDrafting(app, flags, budget);
  const auto ended = config::Configure(app, "STRATA_VERIFY_", argc, argv, rpc::kUsageError,
                                       [&] { CheckTogether(app, flags); });
  if (ended.has_value()) {
    *exit_code = *ended;
    return std::nullopt;
  }
  flags.scheduler.measured_budget = budget == "measured";
  flags.engine.dtype = dtype == "fp32" ? engine::DType::kFp32 : engine::DType::kBf16;
  return flags;
}

}  // namespace strata::verify
