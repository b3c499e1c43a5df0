#ifndef STRATA_TESTS_DRAFT_REFERENCE_TIER_H_
#define STRATA_TESTS_DRAFT_REFERENCE_TIER_H_

#include <algorithm>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "services/draft/tiers/tier.h"
#include "tests/draft/test_util.h"

namespace strata::draft {

// A tier by the book: keeps every context as a list of tokens, counts all, and answers Match by
// looking up one suffix after the other. No hashing, no bounds.
class ReferenceTier final : public Tier {
 public:
  explicit ReferenceTier(TierKind kind) : kind_(kind) {}

  // Teaches what follows each of the text's n-grams.
  void Teach(const Tokens& text) {
    for (size_t next = 1; next < text.size(); ++next) {
      for (size_t order = 1; order <= kMaxContextOrder && order <= next; ++order) {
        Add(Tokens(text.begin() + static_cast<ptrdiff_t>(next - order),
                   text.begin() + static_cast<ptrdiff_t>(next)),
            text[next], 1);
      }
    }
  }
  void Add(const Tokens& context, TokenId token, uint32_t count) {
    Known& known = contexts_[context];
    known.total += count;
    auto found = std::find_if(known.list.begin(), known.list.end(),
                              [&](const Continuation& c) { return c.token == token; });
    Continuation entry = {token, 0};
    if (found != known.list.end()) {
      entry = *found;
      known.list.erase(found);
    }
    entry.count += count;
    known.list.insert(known.list.begin(), entry);
  }

  TierKind kind() const override { return kind_; }
  void Match(std::span<const MatchQuery> queries, int levels,
             std::span<Evidence> out) const override {
    for (size_t q = 0; q < queries.size(); ++q) {
      const ContextTail& tail = *queries[q].tail;
      out[q].levels = 0;
      for (int order = std::min(queries[q].max_order, tail.size()); order >= 1; --order) {
        Tokens context;
        for (int i = order - 1; i >= 0; --i) context.push_back(tail.back(i));
        const auto it = contexts_.find(context);
        if (it == contexts_.end() || out[q].levels == levels) continue;
        ContextCounts& counts = out[q].level[out[q].levels++];
        counts.order = static_cast<uint8_t>(order);
        counts.total = it->second.total;
        counts.size =
            static_cast<uint8_t>(std::min<size_t>(kMaxContinuations, it->second.list.size()));
        std::copy_n(it->second.list.begin(), counts.size, counts.continuations.begin());
      }
    }
  }

 private:
  struct Known {
    uint32_t total = 0;
    // The most recent first.
    std::vector<Continuation> list;
  };
  const TierKind kind_;
  std::map<Tokens, Known> contexts_;
};

}  // namespace strata::draft

#endif  // STRATA_TESTS_DRAFT_REFERENCE_TIER_H_
