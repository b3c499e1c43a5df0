#ifndef STRATA_SERVICES_DRAFT_TIERS_TIER_H_
#define STRATA_SERVICES_DRAFT_TIERS_TIER_H_

#include <cstddef>
#include <span>
#include <vector>

#include "common/base/draft_tree.h"
#include "services/draft/tiers/evidence.h"

namespace strata::draft {

// Queries that a tier may look up together; to ask for more at once gains nothing. Whoever has a
// deadline asks for so many at a time.
inline constexpr size_t kMatchBatch = 16;

// A token database that can be asked what follows a context. Implementations say
// for themselves what they hold and which methods are thread-safe.
class Tier {
 public:
  virtual ~Tier() = default;
  virtual TierKind kind() const = 0;
  // Answers queries[i] in out[i], which is overwritten: the `levels` longest contexts that match
  // and have a continuation. `levels` is 1 to kMaxLevels; out.size() == queries.size(). The
  // queries of a batch are answered together, which is cheaper than one by one.
  virtual void Match(std::span<const MatchQuery> queries, int levels,
                     std::span<Evidence> out) const = 0;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_TIERS_TIER_H_
