#include "services/draft/hosting/hosted_hierarchy.h"

#include <spdlog/spdlog.h>

#include <utility>
#include <vector>

#include "absl/time/time.h"

namespace strata::draft {
namespace {

absl::StatusOr<std::shared_ptr<const CorpusHolder>> OpenCorpus(
    const HierarchyFlags& flags, const std::string& tokenizer_fingerprint) {
  CorpusHolderOptions options;
  options.dir = flags.corpus;
  options.cache_bytes = flags.block_cache_mb << 20;
  options.poll_interval = absl::Seconds(flags.corpus_poll_s);
  options.tokenizer_fingerprint = tokenizer_fingerprint;
  auto corpus = CorpusHolder::Open(std::move(options));
  if (corpus.ok()) {
    spdlog::info("corpus snapshot {}: {} tokens, tokenizer {}", (*corpus)->snapshot_name(),
                 (*corpus)->token_count(), (*corpus)->tokenizer_fingerprint());
  }
  return corpus;
}

}  // namespace

std::unique_ptr<PeriodicSaver> HostedHierarchy::StartSaving(const HierarchyFlags& flags) const {
  return std::make_unique<PeriodicSaver>(model_store.get(), absl::Seconds(flags.save_interval_s),
                                         [drafter = drafter] { drafter->SaveCalibrations(); });
}

absl::StatusOr<HostedHierarchy> OpenHierarchy(const HierarchyFlags& flags,
                                              const DrafterLimits& limits,
                                              const std::string& tokenizer_fingerprint) {
  HostedHierarchy hierarchy;
  DrafterOptions options;
  options.policy = flags.policy;
  options.limits = limits;
  options.tokenizer_fingerprint = tokenizer_fingerprint;
  if (!flags.corpus.empty()) {
    auto corpus = OpenCorpus(flags, tokenizer_fingerprint);
    if (!corpus.ok()) return corpus.status();
    hierarchy.corpus = *std::move(corpus);
    options.corpus = hierarchy.corpus;
    options.tokenizer_fingerprint = hierarchy.corpus->tokenizer_fingerprint();
    options.corpus_info = [holder = hierarchy.corpus] {
      const auto tier = holder->tier();
      return CorpusInfo{tier->snapshot_name(), tier->token_count()};
    };
  }
  std::vector<std::string> warnings;
  auto store = ModelStore::Open(flags.model_store, &warnings);
  for (const std::string& warning : warnings) spdlog::warn("{}", warning);
  if (!store.ok()) return store.status();
  hierarchy.model_store = *std::move(store);
  options.model_store = hierarchy.model_store;
  auto drafter = NewDrafter(std::move(options));
  if (!drafter.ok()) return drafter.status();
  hierarchy.drafter = *std::move(drafter);
  return hierarchy;
}

}  // namespace strata::draft
