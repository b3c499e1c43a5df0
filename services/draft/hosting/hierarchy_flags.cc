#include "services/draft/hosting/hierarchy_flags.h"

#include <algorithm>
#include <thread>

#include "services/draft/hierarchy/drafter.h"
#include "services/draft/hierarchy/locality_policy.h"

namespace strata::draft {
namespace {

void AddTiers(CLI::App& app, HierarchyFlags& flags) {
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

void AddPolicies(CLI::App& app, HierarchyFlags& flags) {
  app.add_option_function<std::string>(
         "--policy",
         [&flags](const std::string& policy) {
           flags.policy.policy = policy == "locality" ? Policy::kLocality : Policy::kCalibrated;
         },
         "How trees are drafted where it is not asked for: calibrated or locality")
      ->check(CLI::IsMember({"calibrated", "locality"}))
      ->default_str("calibrated");
  app.add_option("--draft-threads", flags.policy.draft_threads,
                 "Threads that draft for the sequences of one message; by default one a core, at "
                 "most 4")
      ->check(CLI::Range(1, kMaxDraftThreads))
      ->capture_default_str();
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
}

}  // namespace

HierarchyFlags::HierarchyFlags() {
  policy.draft_threads = std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, 4);
}

void HierarchyFlags::AddTo(CLI::App& app, const std::string& group) {
  const size_t before = app.get_options().size();
  AddTiers(app, *this);
  AddPolicies(app, *this);
  const auto options = app.get_options();
  for (size_t i = before; i < options.size(); ++i) options[i]->group(group);
}

}  // namespace strata::draft
