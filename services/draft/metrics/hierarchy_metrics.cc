#include "services/draft/metrics/hierarchy_metrics.h"

#include <array>
#include <cstddef>
#include <cstdint>

namespace strata::draft {
namespace {

using metrics::Page;

void CollectDrafter(const DrafterStats& stats, Page& page) {
  page.AddGauge("strata_draft_live_sequences", "Sequences that are held.",
                static_cast<double>(stats.live_sequences));
  page.AddGauge("strata_draft_live_tokens", "Tokens of those.",
                static_cast<double>(stats.live_tokens));
  for (size_t i = 1; i < stats.answers.size(); ++i) {
    page.AddCounter("strata_draft_answers_total",
                    "Answers about one sequence: ok; unknown, to be sent again; invalid; "
                    "exhausted, by a limit.",
                    static_cast<double>(stats.answers[i]), {{"status", kSequenceStatusNames[i]}});
  }
  const auto each_tier = [&](const char* name, const char* help,
                             const std::array<uint64_t, kTierKinds>& nodes) {
    for (size_t tier = 1; tier < nodes.size(); ++tier) {
      page.AddCounter(name, help, static_cast<double>(nodes[tier]),
                      {{"tier", TierName(static_cast<TierKind>(tier))}});
    }
  };
  each_tier("strata_draft_drafted_nodes_total", "Nodes of the trees that were sent, by tier.",
            stats.drafted_nodes);
  each_tier("strata_draft_judged_nodes_total",
            "Of those, nodes whose tree a verifier reported on, verified or not.",
            stats.judged_nodes);
  each_tier("strata_draft_accepted_nodes_total", "Of those, nodes that were right.",
            stats.accepted_nodes);
}

void CollectModels(const ModelStore& models, Page& page) {
  page.AddGauge("strata_draft_model_tier_bytes", "Memory of all model tiers.",
                static_cast<double>(models.bytes()));
  page.AddGauge("strata_draft_model_tier_limit_bytes",
                "Most memory for all model tiers (--model-tier-bytes).",
                static_cast<double>(models.max_bytes()));
  page.AddGauge("strata_draft_model_tiers", "Model tiers: pairs of model and tenant.",
                static_cast<double>(models.tiers()));
  page.AddCounter("strata_draft_save_failures_total",
                  "Saves of the model tiers that ended with an error.",
                  static_cast<double>(models.save_failures()));
}

void CollectCorpus(const CorpusHolder& corpus, Page& page) {
  const auto tier = corpus.tier();
  page.AddInfo("strata_draft_corpus_snapshot_info", "The corpus snapshot that is live.",
               {{"snapshot", tier->snapshot_name()},
                {"tokenizer_fingerprint", tier->tokenizer_fingerprint()}});
  page.AddGauge("strata_draft_corpus_tokens", "Tokens that the live snapshot was counted from.",
                static_cast<double>(tier->token_count()));
  page.AddGauge("strata_draft_corpus_damaged_rows",
                "Rows of the live snapshot that could not be read.",
                static_cast<double>(tier->damaged_values()));
  page.AddCounter("strata_draft_corpus_swaps_total", "Moves to a new snapshot.",
                  static_cast<double>(corpus.swaps()));
  page.AddCounter("strata_draft_corpus_refusals_total",
                  "Snapshots that CURRENT named and that were refused.",
                  static_cast<double>(corpus.refusals()));
  const CorpusCache::Stats cache = corpus.cache_stats();
  page.AddGauge("strata_draft_corpus_block_cache_bytes", "Blocks of the corpus in memory.",
                static_cast<double>(cache.block_bytes));
  page.AddGauge("strata_draft_corpus_block_cache_limit_bytes", "Most memory for those.",
                static_cast<double>(cache.max_block_bytes));
  page.AddCounter("strata_draft_corpus_block_cache_hits_total",
                  "Blocks of the corpus that were in memory when they were needed.",
                  static_cast<double>(cache.block_hits));
  page.AddCounter("strata_draft_corpus_block_cache_misses_total",
                  "Blocks of the corpus that had to be read.",
                  static_cast<double>(cache.block_misses));
  page.AddGauge("strata_draft_corpus_context_cache_bytes",
                "Memory for decoded contexts of the corpus.",
                static_cast<double>(cache.context_bytes));
}

}  // namespace

void CollectHierarchy(const Drafter& drafter, const ModelStore* models, const CorpusHolder* corpus,
                      Page& page) {
  CollectDrafter(drafter.Stats(), page);
  if (models != nullptr) CollectModels(*models, page);
  if (corpus != nullptr) CollectCorpus(*corpus, page);
}

}  // namespace strata::draft
