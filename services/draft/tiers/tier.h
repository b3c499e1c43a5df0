#ifndef STRATA_SERVICES_DRAFT_TIERS_TIER_H_
#define STRATA_SERVICES_DRAFT_TIERS_TIER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "common/base/draft_tree.h"
#include "services/draft/tiers/evidence.h"

namespace strata::draft {

// One continuation of a context: the tokens that may follow it, most likely
// first, with how often they did.
struct Chain {
  std::vector<TokenId> tokens;
  // How often the matched context was followed by tokens[0].
  uint32_t count = 0;
  // How often the matched context occurred at all (>= count).
  uint32_t total = 0;
  // Length of the matched suffix (n-gram order - 1 in the usual counting).
  int matched = 0;
};

// A token database that can be asked what follows a context. Implementations say
// for themselves what they hold and which methods are thread-safe.
class Tier {
 public:
  virtual ~Tier() = default;
  virtual TierKind kind() const = 0;
  // Appends up to `max_chains` distinct chains of up to `chain_length` tokens that
  // follow `context` (most recent token last), the best first. May append none.
  virtual void Lookup(std::span<const TokenId> context, int max_chains, int chain_length,
                      std::vector<Chain>& out) const = 0;
  // Answers queries[i] in out[i], which is overwritten: the `levels` longest contexts that match
  // and have a continuation. `levels` is 1 to kMaxLevels; out.size() == queries.size(). The
  // queries of a batch are answered together, which is cheaper than one by one.
  virtual void Match(std::span<const MatchQuery> queries, int levels,
                     std::span<Evidence> out) const {
    (void)queries, (void)levels;
    for (Evidence& evidence : out) evidence.levels = 0;
  }
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_TIERS_TIER_H_
