#ifndef STRATA_TESTS_DRAFT_REFERENCE_COUNTS_H_
#define STRATA_TESTS_DRAFT_REFERENCE_COUNTS_H_

#include <algorithm>
#include <map>
#include <random>
#include <span>
#include <vector>

#include "services/draft/tiers/evidence.h"
#include "tests/draft/test_util.h"

namespace strata::draft {

// What NgramCounts promises, with contexts kept as tokens in a map: no hashing, no cells, no
// growth. Lists have the bound of NgramCounts, so that what gives way is checked too.
class ReferenceCounts {
 public:
  void Teach(std::span<const TokenId> tokens, size_t begin) { Change(tokens, begin, &Add); }
  void Forget(std::span<const TokenId> tokens, size_t begin) { Change(tokens, begin, &Remove); }

  size_t contexts() const { return contexts_.size(); }

  Evidence Match(const Tokens& context, int max_order, int levels) const {
    Evidence evidence;
    const int longest = std::min({max_order, kMaxContextOrder, static_cast<int>(context.size())});
    for (int order = longest; order >= 1 && evidence.levels < levels; --order) {
      const auto it = contexts_.find(Tokens(context.end() - order, context.end()));
      if (it == contexts_.end() || it->second.list.empty()) continue;
      ContextCounts& counts = evidence.level[evidence.levels++];
      counts.order = static_cast<uint8_t>(order);
      counts.total = it->second.total;
      counts.size = static_cast<uint8_t>(it->second.list.size());
      std::copy(it->second.list.begin(), it->second.list.end(), counts.continuations.begin());
    }
    return evidence;
  }

 private:
  struct Context {
    uint32_t total = 0;
    // The most recent first.
    std::vector<Continuation> list;
  };

  static void Add(Context& context, TokenId token) {
    ++context.total;
    auto& list = context.list;
    Continuation entry = {token, 0};
    const auto known = std::find_if(list.begin(), list.end(),
                                    [&](const Continuation& c) { return c.token == token; });
    if (known != list.end()) {
      entry = *known;
      list.erase(known);
    } else if (list.size() == kMaxContinuations) {
      uint32_t lowest = UINT32_MAX;
      for (const Continuation& c : list) lowest = std::min(lowest, c.count);
      for (size_t i = list.size(); i-- > 0;) {
        if (list[i].count != lowest) continue;
        list.erase(list.begin() + static_cast<ptrdiff_t>(i));
        break;
      }
    }
    ++entry.count;
    list.insert(list.begin(), entry);
  }

  static void Remove(Context& context, TokenId token) {
    --context.total;
    const auto known = std::find_if(context.list.begin(), context.list.end(),
                                    [&](const Continuation& c) { return c.token == token; });
    if (known != context.list.end() && --known->count == 0) context.list.erase(known);
  }

  void Change(std::span<const TokenId> tokens, size_t begin, void (*change)(Context&, TokenId)) {
    for (size_t p = begin; p < tokens.size(); ++p) {
      for (size_t order = 1; order <= std::min<size_t>(p, kMaxContextOrder); ++order) {
        const Tokens key(tokens.begin() + static_cast<ptrdiff_t>(p - order),
                         tokens.begin() + static_cast<ptrdiff_t>(p));
        Context& context = contexts_[key];
        change(context, tokens[p]);
        if (context.total == 0) contexts_.erase(key);
      }
    }
  }

  std::map<Tokens, Context> contexts_;
};

inline void ExpectSameEvidence(const Evidence& got, const Evidence& want) {
  ASSERT_EQ(got.levels, want.levels);
  for (int level = 0; level < got.levels; ++level) {
    const ContextCounts& g = got.level[level];
    const ContextCounts& w = want.level[level];
    EXPECT_EQ(g.order, w.order) << "level " << level;
    EXPECT_EQ(g.total, w.total) << "level " << level;
    ASSERT_EQ(g.size, w.size) << "level " << level;
    for (int i = 0; i < g.size; ++i) {
      EXPECT_EQ(g.continuations[i].token, w.continuations[i].token)
          << "level " << level << ", continuation " << i;
      EXPECT_EQ(g.continuations[i].count, w.continuations[i].count)
          << "level " << level << ", continuation " << i;
    }
  }
}

// One context asked of anything with Match.
template <typename Source>
Evidence Ask(const Source& source, std::span<const TokenId> context, int levels = kMaxLevels,
             int max_order = kMaxContextOrder) {
  const ContextTail tail(context);
  const MatchQuery query = {&tail, max_order};
  Evidence evidence;
  source.Match({&query, 1}, levels, {&evidence, 1});
  return evidence;
}

// The continuations of the longest match, in their order.
template <typename Source>
Tokens Next(const Source& source, std::span<const TokenId> context) {
  Tokens tokens;
  const Evidence evidence = Ask(source, context, 1);
  if (evidence.levels == 0) return tokens;
  for (const Continuation& next : evidence.level[0].list()) tokens.push_back(next.token);
  return tokens;
}

// That a batch of queries of random contexts is answered as each of them alone is.
template <typename Source>
void ExpectBatchesAsOneByOne(const Source& source, std::mt19937& random, int vocabulary) {
  std::vector<ContextTail> tails;
  for (int i = 0; i < 100; ++i) tails.emplace_back(RandomTokens(random, random() % 10, vocabulary));
  std::vector<MatchQuery> queries;
  for (size_t i = 0; i < tails.size(); ++i) {
    queries.push_back({&tails[i], 1 + static_cast<int>(i % kMaxContextOrder)});
  }
  // What is in the answers before does not matter.
  std::vector<Evidence> batch(queries.size());
  for (Evidence& evidence : batch) evidence.levels = kMaxLevels;
  source.Match(queries, 2, batch);
  for (size_t i = 0; i < queries.size(); ++i) {
    Evidence one;
    source.Match({&queries[i], 1}, 2, {&one, 1});
    ExpectSameEvidence(batch[i], one);
  }
}

}  // namespace strata::draft

#endif  // STRATA_TESTS_DRAFT_REFERENCE_COUNTS_H_
