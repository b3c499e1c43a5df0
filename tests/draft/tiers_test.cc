#include <gtest/gtest.h>

#include <algorithm>
#include <deque>

#include "services/draft/tiers/context_tier.h"
#include "services/draft/tiers/model_tier.h"
#include "services/draft/tiers/predicted_tier.h"
#include "tests/draft/reference_lookup.h"
#include "tests/draft/test_util.h"

namespace strata::draft {
namespace {

TEST(ContextTierTest, AgreesWithAScanAtEveryStepOfAGrowingSequence) {
  std::mt19937 random(2);
  for (const int vocabulary : {2, 3, 8, 40}) {
    ContextTier tier;
    Tokens text;
    while (text.size() < 400) {
      const Tokens more = RandomTokens(random, 1 + random() % 5, vocabulary);
      tier.Append(more);
      text.insert(text.end(), more.begin(), more.end());
      const int max_chains = 1 + static_cast<int>(random() % 8);
      const int length = 1 + static_cast<int>(random() % 6);
      std::vector<Chain> got;
      tier.Lookup(tier.tokens(), max_chains, length, got);
      ExpectSameChains(got, ReferenceLookup({{text, 0, text.size()}}, text, max_chains, length));
    }
    EXPECT_EQ(Tokens(tier.tokens().begin(), tier.tokens().end()), text);
  }
}

TEST(ContextTierTest, LongerMatchesComeFirst) {
  ContextTier tier;
  // 5 follows "2 3" once; 9 follows 3 alone, later.
  const Tokens text = {1, 2, 3, 5, 3, 9, 0, 2, 3};
  tier.Append(text);
  std::vector<Chain> chains;
  tier.Lookup(text, 2, 1, chains);
  ASSERT_EQ(chains.size(), 2u);
  EXPECT_EQ(chains[0].tokens, (Tokens{5}));
  EXPECT_EQ(chains[0].matched, 2);
  EXPECT_EQ(chains[1].tokens, (Tokens{9}));
  EXPECT_EQ(chains[1].matched, 1);
  EXPECT_EQ(chains[1].count, 1u);
  EXPECT_EQ(chains[1].total, 2u);
}

TEST(ContextTierTest, AppendsToWhatIsInTheListAndHonoursZeroes) {
  ContextTier tier;
  const Tokens text = {1, 1, 1};
  tier.Append(text);
  std::vector<Chain> chains(1);
  tier.Lookup(text, 0, 4, chains);
  tier.Lookup(text, 4, 0, chains);
  tier.Lookup({}, 4, 4, chains);
  EXPECT_EQ(chains.size(), 1u);
  tier.Lookup(text, 1, 4, chains);
  EXPECT_EQ(chains.size(), 2u);
}

TEST(PredictedTierTest, StartsWithTheTextAndThenFollowsIt) {
  const Tokens predicted = {10, 11, 12, 13, 14};
  const PredictedTier tier(2, predicted);
  std::vector<Chain> chains;
  tier.Lookup(Tokens{1, 2}, 7, 3, chains);
  ASSERT_EQ(chains.size(), 1u);
  EXPECT_EQ(chains[0].tokens, (Tokens{10, 11, 12}));
  chains.clear();
  tier.Lookup(Tokens{1, 2, 10, 11, 12}, 7, 3, chains);
  ASSERT_EQ(chains.size(), 1u);
  EXPECT_EQ(chains[0].tokens, (Tokens{13, 14}));
  EXPECT_EQ(chains[0].matched, 3);
  chains.clear();
  tier.Lookup(Tokens{1, 2, 99}, 7, 3, chains);
  EXPECT_TRUE(chains.empty());
}

TEST(PredictedTierTest, AgreesWithAScanOnceThereIsOutput) {
  std::mt19937 random(3);
  const Tokens predicted = RandomTokens(random, 300, 6);
  const PredictedTier tier(0, predicted);
  for (int trial = 0; trial < 200; ++trial) {
    const Tokens context = RandomTokens(random, 1 + random() % 12, 6);
    std::vector<Chain> got;
    tier.Lookup(context, 7, 4, got);
    ExpectSameChains(got, ReferenceLookup({{predicted, 0, predicted.size()}}, context, 7, 4));
  }
}

TEST(ModelTierTest, AgreesWithAScanOverSegmentsAndEviction) {
  std::mt19937 random(4);
  constexpr size_t kBlockTokens = 256;
  ModelTier tier(kBlockTokens);
  std::deque<ReferenceText> newest_first;
  // Segments in each block, the oldest block first, by the rule of the header.
  std::deque<size_t> blocks;
  size_t in_block = 0;
  for (int step = 0; step < 400; ++step) {
    ReferenceText text;
    text.tokens = RandomTokens(random, 2 + random() % 40, 5);
    text.first_key = random() % text.tokens.size();
    text.end_key = text.first_key + random() % (text.tokens.size() - text.first_key + 1);
    tier.Append(text.tokens, static_cast<uint32_t>(text.first_key),
                static_cast<uint32_t>(text.end_key));
    if (text.first_key < text.end_key) {
      const size_t boundary = in_block == 0 ? 0 : 1;
      if (blocks.empty() || in_block + text.tokens.size() + 1 > kBlockTokens) {
        blocks.push_back(0);
        in_block = text.tokens.size();
      } else {
        in_block += boundary + text.tokens.size();
      }
      ++blocks.back();
      newest_first.push_front(text);
    }
    if (random() % 20 == 0 && blocks.size() > 1) {
      ASSERT_TRUE(tier.DropOldestBlock());
      newest_first.resize(newest_first.size() - blocks.front());
      blocks.pop_front();
    }
    const Tokens context = RandomTokens(random, 1 + random() % 9, 5);
    std::vector<Chain> got;
    tier.Lookup(context, 7, 4, got);
    ExpectSameChains(got,
                     ReferenceLookup({newest_first.begin(), newest_first.end()}, context, 7, 4));
  }
  uint64_t version = 0;
  const std::vector<ModelSegment> segments = tier.Segments(&version);
  EXPECT_EQ(version, tier.version());
  ASSERT_EQ(segments.size(), newest_first.size());
  for (size_t i = 0; i < segments.size(); ++i) {
    const ReferenceText& want = newest_first[newest_first.size() - 1 - i];
    EXPECT_EQ(segments[i].tokens, want.tokens);
    EXPECT_EQ(segments[i].first_key, want.first_key);
    EXPECT_EQ(segments[i].end_key, want.end_key);
  }
  while (tier.DropOldestBlock()) {
  }
  EXPECT_EQ(tier.bytes(), sizeof(ModelTier));
}

}  // namespace
}  // namespace strata::draft
