#ifndef STRATA_SERVICES_DRAFT_CORPUS_CORPUS_TIER_H_
#define STRATA_SERVICES_DRAFT_CORPUS_CORPUS_TIER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "services/draft/corpus/corpus_cache.h"
#include "services/draft/tiers/tier.h"

namespace strata::draft {

// The large, static tier: one immutable snapshot folder (README.md beside this file specifies it),
// opened read-only, so any number of tiers and processes may have the same folder open. Every
// method is thread-safe.
class CorpusTier final : public Tier {
 public:
  // `dir` is a snapshot folder, or a root folder whose CURRENT file names one. `cache` may be
  // shared with other tiers. NOT_FOUND: no such folder, or CURRENT names none. FAILED_PRECONDITION:
  // no manifest (a build that has not finished), a shard, or a foreign format version. DATA_LOSS:
  // the manifest is damaged, or a file is missing or has another size than the manifest says;
  // contents are checked block by block as they are read, and in full by `strata-corpus verify`.
  static absl::StatusOr<std::shared_ptr<const CorpusTier>> Open(const std::string& dir,
                                                                std::shared_ptr<CorpusCache> cache);
  // With a cache of its own.
  static absl::StatusOr<std::shared_ptr<const CorpusTier>> Open(const std::string& dir,
                                                                size_t cache_bytes);
  ~CorpusTier() override;

  // What the tokens were made with; see Tokenizer::fingerprint().
  const std::string& tokenizer_fingerprint() const;
  // The name of the snapshot's folder.
  const std::string& snapshot_name() const;
  // Tokens of the corpus that the snapshot was counted from.
  uint64_t token_count() const;
  int64_t vocab_size() const;
  // The longest context that the snapshot knows, in tokens.
  int max_order() const;
  // Rows that could not be read or decoded since Open. Each gave no drafts; more than 0 means that
  // the snapshot is damaged.
  uint64_t damaged_values() const;
  // Reads rows into the cache, those of the shortest contexts first, because every query starts
  // from them: until all, or `bytes`, were read, or `go_on`, asked before each, says no.
  void Warm(size_t bytes, absl::FunctionRef<bool()> go_on) const;

  TierKind kind() const override;
  // Looks first into the cache of decoded contexts; then reads the row that is known to hold more,
  // and walks it; and so on until the query is answered.
  void Match(std::span<const MatchQuery> queries, int levels,
             std::span<Evidence> out) const override;

 private:
  struct Rep;
  explicit CorpusTier(std::unique_ptr<Rep> rep);
  const std::unique_ptr<Rep> rep_;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_CORPUS_TIER_H_
