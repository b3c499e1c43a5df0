#ifndef STRATA_SERVICES_DRAFT_TIERS_CONTEXT_TIER_H_
#define STRATA_SERVICES_DRAFT_TIERS_CONTEXT_TIER_H_

#include <cstddef>
#include <span>

#include "services/draft/tiers/text_index.h"
#include "services/draft/tiers/tier.h"

namespace strata::draft {

// The tier of highest locality that needs no help from the client: the sequence's own prompt and
// output (Hierarchy Drafting, arXiv 2502.05609, section 3.1, "context-dependent database"). The
// paper keys it by the last token; here longer suffixes come first. Holds the sequence itself too.
//
// Thread-compatible. Memory grows with the sequence, by some 70 bytes a token of language and 230
// at most; whoever appends bounds its length.
class ContextTier final : public Tier {
 public:
  // Tokens >= 0. Amortised O(1) a token.
  void Append(std::span<const TokenId> tokens) { index_.Append(tokens); }

  // The sequence so far; valid until the next Append.
  std::span<const TokenId> tokens() const { return index_.tokens(); }
  size_t bytes() const { return sizeof(*this) + index_.bytes(); }

  TierKind kind() const override { return TierKind::kContext; }
  void Match(std::span<const MatchQuery> queries, int levels,
             std::span<Evidence> out) const override {
    index_.Match(queries, levels, out);
  }

 private:
  TextIndex index_;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_TIERS_CONTEXT_TIER_H_
