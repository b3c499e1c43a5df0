#ifndef STRATA_SERVICES_DRAFT_CORPUS_CORPUS_TIER_H_
#define STRATA_SERVICES_DRAFT_CORPUS_CORPUS_TIER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "services/draft/tiers/tier.h"

namespace strata::draft {

// The large, static tier: one immutable snapshot folder (README.md beside this
// file specifies it), opened read-only, so any number of tiers and processes may
// have the same folder open. Every method is thread-safe.
class CorpusTier final : public Tier {
 public:
  // `dir` is a snapshot folder, or a root folder whose CURRENT file names one.
  // `block_cache_bytes` bounds the memory for blocks read from the snapshot.
  // NOT_FOUND: no such folder, or CURRENT names none. FAILED_PRECONDITION: no
  // manifest (a build that has not finished) or a foreign format version.
  // DATA_LOSS: the manifest is damaged, or a file is missing or has another size
  // than the manifest says; contents are checked block by block as they are
  // read, and in full by `strata-corpus verify`.
  static absl::StatusOr<std::shared_ptr<const CorpusTier>> Open(const std::string& dir,
                                                                size_t block_cache_bytes);
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
  // Values that could not be read or decoded since Open. Each gave no drafts;
  // more than 0 means that the snapshot is damaged.
  uint64_t damaged_values() const;

  TierKind kind() const override;
  // One batched read over all orders. Chains of a longer matched context come
  // first; within one context the more frequent first, a tie to the lower token.
  // Distinct as Tier says: no chain is equal to, or a prefix of, an earlier one.
  void Lookup(std::span<const TokenId> context, int max_chains, int chain_length,
              std::vector<Chain>& out) const override;

 private:
  struct Rep;
  explicit CorpusTier(std::unique_ptr<Rep> rep);
  const std::unique_ptr<Rep> rep_;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_CORPUS_TIER_H_
