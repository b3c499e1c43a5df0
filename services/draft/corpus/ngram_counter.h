#ifndef STRATA_SERVICES_DRAFT_CORPUS_NGRAM_COUNTER_H_
#define STRATA_SERVICES_DRAFT_CORPUS_NGRAM_COUNTER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "services/draft/corpus/context_trie.h"
#include "services/draft/corpus/window_sorter.h"

namespace strata::draft {

// Counts the contexts of any number of documents in bounded memory: windows are
// sorted in memory, spilled as sorted runs, and merged. The result depends on the
// multiset of documents alone, not on their order or on the memory.
// Not thread-safe.
class NgramCounter {
 public:
  // `options` are valid. `spill_dir` exists and is the counter's own; it is left
  // empty after Finish. `memory_bytes` bounds the windows and the merge, except
  // that one document always fits in.
  NgramCounter(const CountOptions& options, int64_t vocab_size, size_t memory_bytes,
               std::string spill_dir);

  // INVALID_ARGUMENT for a token out of [0, vocab_size); else errors of the disk.
  absl::Status Add(std::span<const TokenId> document);

  // Gives every context once to `sink`; see ContextTrie::Sink. `progress` is called
  // now and then with the share of the tokens that are done. No Add after it.
  absl::Status Finish(ContextTrie::Sink sink, const std::function<void(double)>& progress);

  uint64_t token_count() const { return token_count_; }
  // Runs spilled so far, those of intermediate merges too.
  int spilled_runs() const { return next_run_; }

 private:
  absl::Status Spill();
  // Merges runs until few enough are left to be read at once.
  absl::Status MergeToFanIn();
  std::string NewRunPath();

  const CountOptions options_;
  const int64_t vocab_size_;
  const size_t capacity_;
  const size_t fan_in_;
  const std::string spill_dir_;
  WindowSorter sorter_;
  std::vector<std::string> runs_;
  int next_run_ = 0;
  uint64_t token_count_ = 0;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_NGRAM_COUNTER_H_
