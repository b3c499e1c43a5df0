#include "tests/bench/replay/flags.h"

#include <CLI/CLI.hpp>
#include <filesystem>
#include <map>
#include <vector>

#include "common/rpc/serving.h"

namespace strata::replay {
namespace {

using draft::Policy;

struct Parsed {
  Flags flags;
  std::vector<TierKind> tiers;
  std::string order = "file";
};

void AddInput(CLI::App& app, Parsed& parsed) {
  Flags& flags = parsed.flags;
  app.add_option("--model", flags.model_dir,
                 "Model folder: its tokenizer.json says what the tokens mean")
      ->required();
  app.add_option("--model-id", flags.model_id,
                 "Whose model tier is used; by default the model folder's name");
  app.add_option("--replay", flags.replay_file,
                 "Recorded answers: JSON lines with category, prompt_tokens and output_tokens")
      ->required();
  app.add_option("--limit", flags.row_limit, "Play the first rows alone; 0 plays all")
      ->capture_default_str();
  app.add_option("--order", parsed.order, "Play rows as in the file, or shuffled (before --limit)")
      ->check(CLI::IsMember({"file", "shuffled"}))
      ->capture_default_str();
  app.add_option("--seed", flags.seed, "Of the shuffled order")->capture_default_str();
}

void AddDrafting(CLI::App& app, Parsed& parsed) {
  Flags& flags = parsed.flags;
  app.add_option("--budget", flags.play.budget, "Most nodes of a draft tree")
      ->check(CLI::Range(0, 256))
      ->capture_default_str();
  app.add_option("--policy", flags.play.policy,
                 "calibrated or locality; by default what the drafter does unasked")
      ->transform(CLI::CheckedTransformer(std::map<std::string, Policy>{
          {"calibrated", Policy::kCalibrated}, {"locality", Policy::kLocality}}));
  app.add_option("--batch", flags.play.batch, "Sequences live at once; a message a step is for all")
      ->check(CLI::Range(1, 512))
      ->capture_default_str();
}

void AddDrafter(CLI::App& app, Parsed& parsed) {
  Flags& flags = parsed.flags;
  app.add_option("--corpus", flags.corpus,
                 "Corpus snapshot, or a folder whose CURRENT names one. With --remote: what the "
                 "service must have");
  CLI::Option* cache = app.add_option("--block-cache-mb", flags.block_cache_mb,
                                      "Memory for blocks read from the corpus, in MiB")
                           ->check(CLI::Range(1, 1 << 20))
                           ->capture_default_str();
  CLI::Option* tiers =
      app.add_option("--tiers", parsed.tiers,
                     "Comma-separated, of predicted, context, recycled, model, corpus; by default "
                     "all that there is material for")
          ->delimiter(',')
          ->transform(CLI::CheckedTransformer(
              std::map<std::string, TierKind>{{"predicted", TierKind::kPredicted},
                                              {"context", TierKind::kContext},
                                              {"recycled", TierKind::kRecycled},
                                              {"model", TierKind::kModel},
                                              {"corpus", TierKind::kCorpus}}));
  CLI::Option* dir = app.add_option("--model-tier-dir", flags.model_tier_dir,
                                    "Folder where the model tier is loaded from at the start and "
                                    "saved at the end; by default it starts empty");
  CLI::Option* worth =
      app.add_option("--min-path-probability", flags.policy.calibrated.min_path_probability,
                     "Policy calibrated: nodes whose path is less likely to be right are left out")
          ->check(CLI::Range(0.0, 1.0))
          ->capture_default_str();
  app.add_option("--remote", flags.remote,
                 "Draft with the strata-draft at HOST:PORT, with its tiers, instead of here")
      ->excludes(cache)
      ->excludes(tiers)
      ->excludes(dir)
      ->excludes(worth);
  app.add_flag("--json", flags.json, "Print the report as JSON");
  app.add_option(
      "--trees", flags.trees_file,
      "Write the shape of each step's tree, and what was accepted of it, for tree_bench");
}

// What CLI11 cannot say. Throws CLI::ValidationError.
void Complete(Parsed& parsed) {
  Flags& flags = parsed.flags;
  if (parsed.tiers.empty()) flags.tiers.set();
  for (const TierKind tier : parsed.tiers) flags.tiers.set(static_cast<size_t>(tier));
  if (!parsed.tiers.empty() && flags.uses(TierKind::kCorpus) && flags.corpus.empty()) {
    throw CLI::ValidationError("--tiers", "corpus needs --corpus");
  }
  flags.shuffled = parsed.order == "shuffled";
  if (flags.model_id.empty()) {
    flags.model_id = std::filesystem::path(flags.model_dir + "/").parent_path().filename();
  }
  if (flags.model_id.empty()) flags.model_id = "replay";
}

}  // namespace

std::optional<Flags> ParseFlags(int argc, char** argv, int* exit_code) {
  Parsed parsed;
  CLI::App app(
      "strata-replay: plays recorded answers as a perfect verifier, and tells how good the drafts "
      "were and what they cost.");
  AddInput(app, parsed);
  AddDrafting(app, parsed);
  AddDrafter(app, parsed);
  try {
    app.parse(argc, argv);
    Complete(parsed);
  } catch (const CLI::ParseError& error) {
    *exit_code = app.exit(error) == 0 ? 0 : rpc::kUsageError;
    return std::nullopt;
  }
  return parsed.flags;
}

}  // namespace strata::replay
