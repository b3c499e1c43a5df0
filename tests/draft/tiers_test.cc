#include <gtest/gtest.h>

#include <thread>

#include "services/draft/tiers/context_tier.h"
#include "services/draft/tiers/model_tier.h"
#include "services/draft/tiers/predicted_tier.h"
#include "services/draft/tiers/recycled_tier.h"
#include "tests/draft/test_util.h"

namespace strata::draft {
namespace {

Evidence MatchOne(const Tier& tier, const Tokens& context, int levels = kMaxLevels) {
  const ContextTail tail(context);
  const MatchQuery query = {&tail, kMaxContextOrder};
  Evidence evidence;
  tier.Match({&query, 1}, levels, {&evidence, 1});
  return evidence;
}

// The first continuation of the longest match; -1 if there is none.
TokenId Next(const Tier& tier, const Tokens& context) {
  const Evidence evidence = MatchOne(tier, context, 1);
  return evidence.levels == 0 ? -1 : evidence.level[0].continuations[0].token;
}

TEST(ContextTierTest, LongerMatchesComeFirst) {
  ContextTier tier;
  // 5 follows "2 3" once; 9 follows 3 alone, later.
  tier.Append(Tokens{1, 2, 3, 5, 3, 9, 0, 2});
  tier.Append(Tokens{3});
  const Evidence evidence = MatchOne(tier, {0, 2, 3});
  ASSERT_EQ(evidence.levels, 2);
  EXPECT_EQ(evidence.level[0].order, 2);
  EXPECT_EQ(evidence.level[0].continuations[0].token, 5);
  EXPECT_EQ(evidence.level[1].order, 1);
  EXPECT_EQ(evidence.level[1].total, 2u);
  EXPECT_EQ(evidence.level[1].continuations[0].token, 9);
}

TEST(ContextTierTest, AppendingInPiecesIsAppendingAtOnce) {
  std::mt19937 random(2);
  const Tokens text = RandomTokens(random, 500, 5);
  ContextTier whole, pieces;
  whole.Append(text);
  for (size_t at = 0; at < text.size();) {
    const size_t size = std::min<size_t>(random() % 9, text.size() - at);
    pieces.Append(std::span(text).subspan(at, size));
    at += size;
  }
  EXPECT_EQ(Tokens(pieces.tokens().begin(), pieces.tokens().end()), text);
  for (int trial = 0; trial < 300; ++trial) {
    const Tokens context = RandomTokens(random, 1 + random() % 9, 5);
    const Evidence a = MatchOne(whole, context), b = MatchOne(pieces, context);
    ASSERT_EQ(a.levels, b.levels);
    for (int l = 0; l < a.levels; ++l) {
      EXPECT_EQ(a.level[l].total, b.level[l].total);
      ASSERT_EQ(a.level[l].size, b.level[l].size);
      for (int i = 0; i < a.level[l].size; ++i) {
        EXPECT_EQ(a.level[l].continuations[i].token, b.level[l].continuations[i].token);
      }
    }
  }
}

TEST(PredictedTierTest, StartsWithTheTextAndThenFollowsIt) {
  const Tokens prompt = {1, 2}, predicted = {10, 11, 12, 13, 14};
  const PredictedTier tier(prompt, predicted);
  EXPECT_EQ(Next(tier, {1, 2}), 10);
  EXPECT_EQ(Next(tier, {1, 2, 10}), 11);
  EXPECT_EQ(MatchOne(tier, {1, 2, 10}).level[0].order, 3);
  EXPECT_EQ(Next(tier, {7, 12, 13}), 14);
  EXPECT_EQ(Next(tier, {1, 2, 99}), -1);
  // What follows within the prompt is not the client's prediction.
  EXPECT_EQ(Next(tier, {1}), -1);
}

TEST(PredictedTierTest, WithoutAPromptItIsMatchedAndNotStarted) {
  const PredictedTier tier({}, Tokens{10, 11});
  EXPECT_EQ(Next(tier, {1, 2}), -1);
  EXPECT_EQ(Next(tier, {10}), 11);
}

TEST(ModelTierTest, TeachesItsKeysAlone) {
  ModelTier tier;
  // Keys 2 and 3: what follows them, with the tokens before as their context.
  tier.Append(Tokens{1, 2, 3, 4, 5, 6}, 2, 4);
  EXPECT_EQ(Next(tier, {1}), -1);
  EXPECT_EQ(Next(tier, {2}), -1);
  EXPECT_EQ(Next(tier, {1, 2, 3}), 4);
  EXPECT_EQ(MatchOne(tier, {1, 2, 3}).level[0].order, 3);
  EXPECT_EQ(Next(tier, {4}), 5);
  EXPECT_EQ(Next(tier, {5}), -1);
  // Segments do not run into each other.
  tier.Append(Tokens{8, 9}, 0, 2);
  EXPECT_EQ(Next(tier, {6}), -1);
  EXPECT_EQ(Next(tier, {9}), -1);
  tier.Append(Tokens{8, 9}, 1, 1);
  uint64_t version = 0;
  EXPECT_EQ(tier.Segments(&version).size(), 2u);
  EXPECT_EQ(version, tier.version());
}

TEST(ModelTierTest, ForgetsTheOldestFirstAndGivesTheMemoryBack) {
  ModelTier tier;
  const size_t empty = tier.bytes();
  std::mt19937 random(4);
  std::vector<Tokens> segments;
  for (TokenId i = 0; i < 400; ++i) {
    Tokens segment = RandomTokens(random, 70, 1000);
    segment[10] = 100000 + i;
    segment[11] = 200000 + i;
    tier.Append(segment, 7, 69);
    segments.push_back(segment);
  }
  const size_t full = tier.bytes();
  EXPECT_GT(full, 400u * 70 * 100);
  TokenId first_known = 0;
  size_t last_bytes = full;
  while (tier.ForgetOldest()) {
    TokenId known = 0;
    while (known < 400 && Next(tier, {100000 + known}) < 0) ++known;
    EXPECT_GT(known, first_known);
    for (TokenId i = known; i < 400; ++i) EXPECT_EQ(Next(tier, {100000 + i}), 200000 + i);
    first_known = known;
    EXPECT_LE(tier.bytes(), last_bytes);
    last_bytes = tier.bytes();
  }
  EXPECT_EQ(first_known, 400);
  // The least tables of 64 shards.
  EXPECT_LE(tier.bytes(), empty + 64 * 1024);
}

TEST(ModelTierTest, BytesFallWithinAFewForgettings) {
  ModelTier tier;
  std::mt19937 random(6);
  for (int i = 0; i < 500; ++i) tier.Append(RandomTokens(random, 70, 50000), 7, 69);
  const size_t full = tier.bytes();
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(tier.ForgetOldest());
  EXPECT_LT(tier.bytes(), full);
}

TEST(ModelTierTest, ReadersBesideAWriter) {
  ModelTier tier;
  std::atomic<bool> done = false;
  std::thread reader([&] {
    std::mt19937 random(1);
    while (!done) {
      const Tokens context = RandomTokens(random, 3, 6);
      const Evidence evidence = MatchOne(tier, context);
      for (int l = 0; l < evidence.levels; ++l) {
        for (const Continuation& next : evidence.level[l].list()) ASSERT_LT(next.token, 6);
      }
    }
  });
  std::mt19937 random(2);
  for (int i = 0; i < 1500; ++i) {
    tier.Append(RandomTokens(random, 40, 6), 3, 40);
    if (i % 50 == 49) tier.ForgetOldest();
  }
  done = true;
  reader.join();
}

TEST(RecycledTierTest, KeepsTheLastRankingOfOneAndOfTwoTokens) {
  RecycledTier tier;
  RowRanking row;
  row.previous_token = 3;
  row.token = 5;
  row.size = 3;
  row.next_tokens = {7, 8, 9};
  tier.Learn({&row, 1});
  Evidence evidence = MatchOne(tier, {3, 5});
  ASSERT_EQ(evidence.levels, 2);
  for (int l = 0; l < 2; ++l) {
    EXPECT_EQ(evidence.level[l].order, 2 - l);
    ASSERT_EQ(evidence.level[l].size, 3);
    EXPECT_EQ(evidence.level[l].total, 6u);
    EXPECT_EQ(evidence.level[l].continuations[0].token, 7);
    EXPECT_EQ(evidence.level[l].continuations[0].count, 3u);
    EXPECT_EQ(evidence.level[l].continuations[2].token, 9);
    EXPECT_EQ(evidence.level[l].continuations[2].count, 1u);
  }
  // Another ranking after 5 takes the place of the one-token context alone.
  row.previous_token = -1;
  row.size = 1;
  row.next_tokens = {4};
  tier.Learn({&row, 1});
  evidence = MatchOne(tier, {3, 5});
  ASSERT_EQ(evidence.levels, 2);
  EXPECT_EQ(evidence.level[0].continuations[0].token, 7);
  EXPECT_EQ(evidence.level[1].continuations[0].token, 4);
  EXPECT_EQ(MatchOne(tier, {3, 6}).levels, 0);
  // The bound of a query holds.
  const ContextTail tail(Tokens{3, 5});
  const MatchQuery query = {&tail, 1};
  tier.Match({&query, 1}, kMaxLevels, {&evidence, 1});
  EXPECT_EQ(evidence.levels, 1);
}

TEST(RecycledTierTest, MemoryDoesNotGrow) {
  RecycledTier tier;
  const size_t before = tier.bytes();
  std::mt19937 random(1);
  for (int i = 0; i < 100000; ++i) {
    RowRanking row;
    row.previous_token = static_cast<TokenId>(random() % 50000);
    row.token = static_cast<TokenId>(random() % 50000);
    row.size = 8;
    tier.Learn({&row, 1});
  }
  EXPECT_EQ(tier.bytes(), before);
}

}  // namespace
}  // namespace strata::draft
