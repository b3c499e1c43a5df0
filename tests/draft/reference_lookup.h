#ifndef STRATA_TESTS_DRAFT_REFERENCE_LOOKUP_H_
#define STRATA_TESTS_DRAFT_REFERENCE_LOOKUP_H_

#include <algorithm>
#include <map>
#include <span>
#include <vector>

#include "services/draft/tiers/chain_collector.h"
#include "services/draft/tiers/tier.h"
#include "tests/draft/test_util.h"

namespace strata::draft {

// One text, its keys being [first_key, end_key).
struct ReferenceText {
  Tokens tokens;
  size_t first_key = 0;
  size_t end_key = 0;
};

// What LookupIndexes promises, by scanning every position of every text (the most recent text
// first): no index, no hashing.
inline std::vector<Chain> ReferenceLookup(const std::vector<ReferenceText>& texts,
                                          std::span<const TokenId> context, int max_chains,
                                          int chain_length) {
  std::vector<Chain> chains;
  const auto starts_with = [](const Tokens& whole, const Tokens& beginning) {
    return beginning.size() <= whole.size() &&
           std::equal(beginning.begin(), beginning.end(), whole.begin());
  };
  for (int order = std::min<int>(8, static_cast<int>(context.size())); order >= 1; --order) {
    if (static_cast<int>(chains.size()) >= max_chains) break;
    const Tokens suffix(context.end() - order, context.end());
    const size_t first_new = chains.size();
    uint32_t total = 0;
    std::map<TokenId, uint32_t> counts;
    for (const ReferenceText& text : texts) {
      for (size_t end = text.end_key; end-- > text.first_key && total < kMaxOccurrences;) {
        if (end + 1 < suffix.size() ||
            !std::equal(suffix.begin(), suffix.end(), text.tokens.begin() + end + 1 - order)) {
          continue;
        }
        const size_t length = std::min<size_t>(chain_length, text.tokens.size() - end - 1);
        if (length == 0) continue;
        const Tokens next(text.tokens.begin() + end + 1, text.tokens.begin() + end + 1 + length);
        ++total;
        ++counts[next[0]];
        if (std::any_of(chains.begin(), chains.end(),
                        [&](const Chain& chain) { return starts_with(chain.tokens, next); })) {
          continue;
        }
        const auto shorter = std::find_if(chains.begin(), chains.end(), [&](const Chain& chain) {
          return starts_with(next, chain.tokens);
        });
        if (shorter != chains.end()) {
          shorter->tokens = next;
        } else if (static_cast<int>(chains.size()) < max_chains) {
          chains.push_back({next, 0, 0, order});
        }
      }
    }
    for (size_t i = first_new; i < chains.size(); ++i) {
      chains[i].count = counts[chains[i].tokens[0]];
      chains[i].total = total;
    }
  }
  return chains;
}

inline void ExpectSameChains(const std::vector<Chain>& got, const std::vector<Chain>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].tokens, want[i].tokens) << "chain " << i;
    EXPECT_EQ(got[i].count, want[i].count) << "chain " << i;
    EXPECT_EQ(got[i].total, want[i].total) << "chain " << i;
    EXPECT_EQ(got[i].matched, want[i].matched) << "chain " << i;
  }
}

}  // namespace strata::draft

#endif  // STRATA_TESTS_DRAFT_REFERENCE_LOOKUP_H_
