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

void AddDrafting(CLI::App& app, Flags& flags) {
  flags.hierarchy.AddTo(app, "Tiers and policies");
  app.add_option(
      "--tokenizer-fingerprint", flags.tokenizer_fingerprint,
      "Serve verifiers with this tokenizer alone; with --corpus it must be the corpus's");
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
  AddDrafting(app, flags);
  const auto ended = config::Configure(app, "STRATA_DRAFT_", argc, argv, rpc::kUsageError, [] {});
  if (ended.has_value()) {
    *exit_code = *ended;
    return std::nullopt;
  }
  return flags;
}

}  // namespace strata::draft
