// strata-replay: how good are the drafts, and what do they cost? See --help and
// tests/bench/README.md.
//
// Prints the report on standard output. Ends with 0, 1 after one sentence on standard error about
// what went wrong, or 2 for a wrong command line.

#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "common/base/shuffle.h"
#include "common/tokenizer/tokenizer.h"
#include "services/draft/corpus/corpus_tier.h"
#include "services/draft/hierarchy/hierarchy_drafter.h"
#include "services/draft/tiers/model_store.h"
#include "tests/bench/replay/draft_driver.h"
#include "tests/bench/replay/flags.h"
#include "tests/bench/replay/player.h"
#include "tests/bench/replay/report.h"
#include "tests/bench/replay/rows.h"
#include "tests/bench/replay/tree_recorder.h"

namespace strata::replay {
namespace {

using CorpusPtr = std::shared_ptr<const draft::CorpusTier>;

// Null without a corpus to use.
absl::StatusOr<CorpusPtr> OpenCorpus(const Flags& flags, const Tokenizer& tokenizer) {
  if (flags.corpus.empty() || !flags.uses(TierKind::kCorpus)) return CorpusPtr();
  auto corpus = draft::CorpusTier::Open(flags.corpus, flags.block_cache_mb << 20);
  if (!corpus.ok()) return corpus.status();
  if ((*corpus)->tokenizer_fingerprint() != tokenizer.fingerprint()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the tokenizer of ", flags.model_dir, " (", tokenizer.fingerprint(), ") is not the one of ",
        flags.corpus, " (", (*corpus)->tokenizer_fingerprint(), ")"));
  }
  return *std::move(corpus);
}

absl::StatusOr<std::unique_ptr<DraftDriver>> OpenLocal(const Flags& flags, CorpusPtr corpus,
                                                       const ReplayIdentity& identity) {
  draft::DrafterOptions options;
  options.policy = flags.policy;
  if (corpus != nullptr) {
    options.tokenizer_fingerprint = identity.tokenizer_fingerprint;
    options.corpus_info = [corpus] {
      return draft::CorpusInfo{corpus->snapshot_name(), corpus->token_count()};
    };
    options.corpus = std::move(corpus);
  }
  options.use_context = flags.uses(TierKind::kContext);
  // Recycled candidates are kept with the model tier.
  if (flags.uses(TierKind::kModel) || flags.uses(TierKind::kRecycled)) {
    draft::ModelStoreOptions store_options;
    store_options.dir = flags.model_tier_dir;
    std::vector<std::string> warnings;
    auto store = draft::ModelStore::Open(store_options, &warnings);
    for (const std::string& warning : warnings) std::fprintf(stderr, "%s\n", warning.c_str());
    if (!store.ok()) return store.status();
    options.model_store = *std::move(store);
  }
  return NewLocalDriver(std::move(options), identity);
}

absl::StatusOr<std::unique_ptr<DraftDriver>> OpenDriver(const Flags& flags,
                                                        const Tokenizer& tokenizer) {
  const ReplayIdentity identity = {flags.model_id, tokenizer.fingerprint(), tokenizer.vocab_size()};
  auto corpus = OpenCorpus(flags, tokenizer);
  if (!corpus.ok()) return corpus.status();
  if (flags.remote.empty()) return OpenLocal(flags, *std::move(corpus), identity);
  return NewRemoteDriver(flags.remote, *corpus == nullptr ? "" : (*corpus)->snapshot_name(),
                         identity);
}

absl::Status Replay(const Flags& flags) {
  auto tokenizer = Tokenizer::Load(flags.model_dir);
  if (!tokenizer.ok()) return tokenizer.status();
  auto rows = LoadRows(flags.replay_file, (*tokenizer)->vocab_size());
  if (!rows.ok()) return rows.status();
  if (flags.shuffled) Shuffle(flags.seed, *rows);
  if (flags.row_limit > 0 && flags.row_limit < rows->size()) {
    rows->erase(rows->begin() + static_cast<ptrdiff_t>(flags.row_limit), rows->end());
  }
  auto driver = OpenDriver(flags, **tokenizer);
  if (!driver.ok()) return driver.status();

  PlayOptions options = flags.play;
  options.send_predicted = flags.uses(TierKind::kPredicted);
  options.send_rankings = flags.uses(TierKind::kRecycled);
  TreeRecorder recorder;
  if (!flags.trees_file.empty()) {
    options.on_step = [&](const Row& row, const DraftTree& tree,
                          std::span<const int32_t> accepted) { recorder.Add(row, tree, accepted); };
  }
  Statistics statistics;
  absl::Status status = Play(*rows, options, **driver, statistics);
  if (status.ok()) status = (*driver)->Finish();
  if (status.ok() && !flags.trees_file.empty()) status = recorder.Write(flags.trees_file);
  if (!status.ok()) return status;
  const std::string report = flags.json ? JsonReport(statistics) : TextReport(statistics);
  if (std::fputs(report.c_str(), stdout) == EOF || std::fflush(stdout) != 0) {
    return absl::UnavailableError("cannot write the report to standard output");
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace strata::replay

int main(int argc, char** argv) {
  int exit_code = 0;
  const auto flags = strata::replay::ParseFlags(argc, argv, &exit_code);
  if (!flags.has_value()) return exit_code;
  const absl::Status status = strata::replay::Replay(*flags);
  if (status.ok()) return 0;
  std::fprintf(stderr, "strata-replay: %s\n", std::string(status.message()).c_str());
  return 1;
}
