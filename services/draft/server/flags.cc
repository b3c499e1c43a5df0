#include "services/draft/server/flags.h"

#include <CLI/CLI.hpp>
#include <string>

#include "common/config/configuration.h"

namespace strata::draft {
namespace {

void AddServing(CLI::App& app, Flags& flags) {
  flags.serving.AddTo(app);
  app.add_option("--threads", flags.serving.server.max_threads,
                 "Most threads that serve calls; a verifier's stream holds one")
      ->check(CLI::Range(4, 65536))
      ->capture_default_str();
}

void AddTiers(CLI::App& app, Flags& flags) {
  app.add_option("--corpus", flags.corpus,
                 "Corpus snapshot (strata-corpus build), or a folder whose CURRENT names one");
  app.add_option("--block-cache-mb", flags.block_cache_mb,
                 "Memory for what is read from the corpus, in MiB")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--corpus-poll", flags.corpus_poll_s,
                 "Seconds between looks at CURRENT for a new corpus snapshot; 0: never")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  app.add_option(
      "--tokenizer-fingerprint", flags.tokenizer_fingerprint,
      "Serve verifiers with this tokenizer alone; with --corpus it must be the corpus's");
  app.add_option("--model-tier-dir", flags.model_store.dir,
                 "Folder where the model tiers are saved and loaded from; without it they end "
                 "with the process");
  app.add_option("--model-tier-bytes", flags.model_store.max_bytes,
                 "Memory for all model tiers together, in bytes or like 512MB")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/false))
      ->capture_default_str();
  app.add_option("--tenant-model-tier-bytes", flags.model_store.max_tenant_bytes,
                 "Memory for the text of one tenant's model tier, in bytes or like 16MB; 0: as "
                 "much as the others leave")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/false))
      ->capture_default_str();
  app.add_option("--model-tiers", flags.model_store.max_tiers,
                 "Most model tiers, that is pairs of model and tenant")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--calibrations", flags.policy.max_calibrations,
                 "Most calibrations in memory, that is pairs of model and tenant in use, 137 KB "
                 "each; those of others are with the model tiers")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--save-interval", flags.save_interval_s,
                 "Seconds between saves of the model tiers")
      ->check(CLI::Range(0.1, 1e6))
      ->capture_default_str();
}

void AddDrafting(CLI::App& app, Flags& flags) {
  app.add_option_function<std::string>(
         "--policy",
         [&flags](const std::string& policy) {
           flags.policy.policy = policy == "locality" ? Policy::kLocality : Policy::kCalibrated;
         },
         "How trees are drafted where the verifier does not say: calibrated or locality")
      ->check(CLI::IsMember({"calibrated", "locality"}))
      ->default_str("calibrated");
  app.add_option("--min-path-probability", flags.policy.calibrated.min_path_probability,
                 "Policy calibrated: nodes whose path is less likely to be right are left out")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  app.add_option("--chains", flags.policy.locality.max_chains,
                 "Policy locality: chains in a draft tree")
      ->check(CLI::Range(1, kMaxChains))
      ->capture_default_str();
  app.add_option("--chain-length", flags.policy.locality.chain_length,
                 "Policy locality: tokens in a chain")
      ->check(CLI::Range(1, kMaxChainLength))
      ->capture_default_str();
  app.add_option("--max-sequences", flags.limits.max_sequences, "Most live sequences")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  app.add_option("--max-sequence-tokens", flags.limits.max_sequence_tokens,
                 "Most tokens of one sequence")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  app.add_option_function<double>(
         "--idle-eviction",
         [&flags](double seconds) { flags.limits.idle_before_eviction = absl::Seconds(seconds); },
         "At a limit, sequences that were not touched for so many seconds give way")
      ->check(CLI::Range(0.0, 1e6))
      ->default_str("60");
  app.add_option("--max-live-tokens", flags.limits.max_live_tokens,
                 "Most tokens of all live sequences; one takes up to 300 bytes")
      ->check(CLI::Range(1, 1 << 30))
      ->capture_default_str();
}

}  // namespace

std::optional<Flags> ParseFlags(int argc, char** argv, int* exit_code) {
  Flags flags;
  CLI::App app("strata-draft: guesses the next tokens of LLM generations from token databases.");
  app.set_version_flag("--version", STRATA_VERSION);
  AddServing(app, flags);
  AddTiers(app, flags);
  AddDrafting(app, flags);
  const auto ended = config::Configure(app, "STRATA_DRAFT_", argc, argv, rpc::kUsageError, [] {});
  if (ended.has_value()) {
    *exit_code = *ended;
    return std::nullopt;
  }
  return flags;
}

}  // namespace strata::draft
