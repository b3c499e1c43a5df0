#include "services/draft/server/flags.h"

#include <CLI/CLI.hpp>

namespace strata::draft {
namespace {

constexpr int kUsageError = 2;
constexpr int kBytesPerMb = 1 << 20;

void AddServing(CLI::App& app, Flags& flags, int& max_message_mb) {
  app.add_option("--listen", flags.server.listen,
                 "Address to serve on: HOST:PORT (port 0: any free one) or unix:PATH")
      ->capture_default_str();
  app.add_option("--port-file", flags.port_file,
                 "Write the address that is served to this file once it is");
  app.add_option("--threads", flags.server.max_threads,
                 "Most threads that serve calls; a verifier's stream holds one")
      ->check(CLI::Range(4, 65536))
      ->capture_default_str();
  app.add_option("--max-message-mb", max_message_mb, "Longest message that is read, in MiB")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--tls-cert", flags.server.tls.cert_file, "PEM certificate chain of this server");
  app.add_option("--tls-key", flags.server.tls.key_file, "PEM private key of this server");
  app.add_option("--tls-client-ca", flags.server.tls.ca_file,
                 "PEM authorities that clients' certificates must come from (mutual TLS)");
  app.add_option("--drain-seconds", flags.drain_s,
                 "After SIGTERM or SIGINT, how long calls under way may take to end")
      ->check(CLI::Range(0.0, 3600.0))
      ->capture_default_str();
  app.add_option("--log-level", flags.log_level, "Least severe messages that are logged")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error", "off"}))
      ->capture_default_str();
}

void AddTiers(CLI::App& app, Flags& flags) {
  app.add_option("--corpus", flags.corpus,
                 "Corpus snapshot (strata-corpus build), or a folder whose CURRENT names one");
  app.add_option("--block-cache-mb", flags.block_cache_mb,
                 "Memory for blocks read from the corpus, in MiB")
      ->check(CLI::Range(1, 1 << 20))
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
  app.add_option("--model-tiers", flags.model_store.max_tiers,
                 "Most model tiers, that is pairs of model and tenant")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--save-interval", flags.save_interval_s,
                 "Seconds between saves of the model tiers")
      ->check(CLI::Range(0.1, 1e6))
      ->capture_default_str();
}

void AddDrafting(CLI::App& app, Flags& flags) {
  app.add_option("--chains", flags.locality.max_chains, "Chains in a draft tree")
      ->check(CLI::Range(1, kMaxChains))
      ->capture_default_str();
  app.add_option("--chain-length", flags.locality.chain_length, "Tokens in a chain")
      ->check(CLI::Range(1, kMaxChainLength))
      ->capture_default_str();
  app.add_option("--max-sequences", flags.limits.max_sequences, "Most live sequences")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  app.add_option("--max-sequence-tokens", flags.limits.max_sequence_tokens,
                 "Most tokens of one sequence")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  app.add_option("--max-live-tokens", flags.limits.max_live_tokens,
                 "Most tokens of all live sequences; one takes up to 200 bytes")
      ->check(CLI::Range(1, 1 << 30))
      ->capture_default_str();
}

}  // namespace

std::optional<Flags> ParseFlags(int argc, char** argv, int* exit_code) {
  Flags flags;
  int max_message_mb = flags.server.max_receive_bytes / kBytesPerMb;
  CLI::App app("strata-draft: guesses the next tokens of LLM generations from token databases.");
  app.set_version_flag("--version", STRATA_VERSION);
  app.set_config("--config", "", "Read options from this TOML or INI file; the command line wins");
  AddServing(app, flags, max_message_mb);
  AddTiers(app, flags);
  AddDrafting(app, flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    *exit_code = app.exit(error) == 0 ? 0 : kUsageError;
    return std::nullopt;
  }
  flags.server.max_receive_bytes = max_message_mb * kBytesPerMb;
  return flags;
}

}  // namespace strata::draft
