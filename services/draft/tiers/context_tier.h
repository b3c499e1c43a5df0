#ifndef STRATA_SERVICES_DRAFT_TIERS_CONTEXT_TIER_H_
#define STRATA_SERVICES_DRAFT_TIERS_CONTEXT_TIER_H_

#include <cstddef>
#include <span>
#include <vector>

#include "services/draft/tiers/ngram_index.h"
#include "services/draft/tiers/tier.h"

namespace strata::draft {

// The tier of highest locality that needs no help from the client: the sequence's own prompt and
// output (Hierarchy Drafting, arXiv 2502.05609, section 3.1, "context-dependent database"). The
// paper keys it by the last token and keeps the 7 most recent continuations of 4; here longer
// suffixes, up to NgramIndex::kMaxOrder, come first. Holds the sequence itself too.
//
// Thread-compatible. Memory grows with the sequence; whoever appends bounds its length.
class ContextTier final : public Tier {
 public:
  void Append(std::span<const TokenId> tokens);

  // The sequence so far; valid until the next Append.
  std::span<const TokenId> tokens() const { return index_.text(); }
  size_t bytes() const { return index_.bytes(); }

  TierKind kind() const override { return TierKind::kContext; }
  void Lookup(std::span<const TokenId> context, int max_chains, int chain_length,
              std::vector<Chain>& out) const override;

 private:
  NgramIndex index_;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_TIERS_CONTEXT_TIER_H_
