#include "services/draft/tiers/ngram_index.h"

#include <gtest/gtest.h>

#include "tests/draft/test_util.h"

namespace strata::draft {
namespace {

TEST(NgramIndexTest, ListsEveryOccurrenceOfEveryOrderNewestFirst) {
  std::mt19937 random(1);
  const Tokens text = RandomTokens(random, 3000, 4);
  NgramIndex index;
  for (const TokenId token : text) index.Append(token);
  for (int trial = 0; trial < 300; ++trial) {
    const Tokens context = RandomTokens(random, 1 + random() % 10, 4);
    const NgramIndex::Match match = index.Find(context);
    for (int order = 1; order <= NgramIndex::kMaxOrder; ++order) {
      if (order > static_cast<int>(context.size())) {
        EXPECT_LT(match.longest, order);
        continue;
      }
      std::vector<uint32_t> want;
      for (size_t end = text.size(); end-- >= static_cast<size_t>(order);) {
        if (std::equal(context.end() - order, context.end(), text.begin() + end + 1 - order)) {
          want.push_back(static_cast<uint32_t>(end));
        }
      }
      std::vector<uint32_t> got;
      if (order <= match.longest) {
        for (uint32_t at = match.last[order - 1]; at != NgramIndex::kNone;
             at = index.Previous(order, at)) {
          got.push_back(at);
        }
      }
      EXPECT_EQ(got, want) << "order " << order;
    }
  }
}

TEST(NgramIndexTest, NothingCrossesABoundary) {
  NgramIndex index;
  for (const TokenId token : {1, 2, 3}) index.Append(token);
  index.AppendBoundary();
  index.AppendBoundary();
  for (const TokenId token : {4, 5}) index.Append(token);
  EXPECT_EQ(index.text().size(), 6u);
  const Tokens across = {3, 4};
  EXPECT_EQ(index.Find(across).longest, 1);
  const Tokens last = {2, 3};
  const NgramIndex::Match match = index.Find(last);
  ASSERT_EQ(match.longest, 2);
  EXPECT_TRUE(index.Continuation(match.last[1], 4).empty());
  const Tokens first = {1};
  const auto next = index.Continuation(index.Find(first).last[0], 4);
  EXPECT_EQ(Tokens(next.begin(), next.end()), (Tokens{2, 3}));
  const Tokens boundary = {NgramIndex::kBoundary};
  EXPECT_EQ(index.Find(boundary).longest, 0);
}

TEST(NgramIndexTest, TextThatIsNoKeyIsNotFoundButIsPartOfLongerNgrams) {
  NgramIndex index;
  index.Append(1, /*key=*/false);
  index.Append(2, /*key=*/true);
  const Tokens one = {1}, both = {1, 2};
  EXPECT_EQ(index.Find(one).longest, 0);
  EXPECT_EQ(index.Find(both).longest, 2);
}

TEST(NgramIndexTest, EmptyIndexAndEmptyContext) {
  NgramIndex index;
  const Tokens context = {1};
  EXPECT_EQ(index.Find(context).longest, 0);
  index.Append(1);
  EXPECT_EQ(index.Find({}).longest, 0);
}

// The documented bound, for the worst text (all n-grams differ) and the best (all the same).
TEST(NgramIndexTest, MemoryIsBoundedATokenAndTimeIsLinear) {
  constexpr size_t kTokens = 200000;
  for (const bool same : {false, true}) {
    NgramIndex index;
    for (size_t i = 0; i < kTokens; ++i) index.Append(same ? 7 : static_cast<TokenId>(i));
    EXPECT_LE(index.bytes(), 200 * kTokens) << (same ? "one token" : "all different");
  }
}

}  // namespace
}  // namespace strata::draft
