#include "services/verify/scheduler/prefix_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tests/verify/fake_engine.h"

namespace strata::verify {
namespace {

// That of FakeEngine.
constexpr size_t kPage = 4;

uint64_t AllCollide(uint64_t, std::span<const TokenId>) { return 7; }
uint64_t MostCollide(uint64_t, std::span<const TokenId> tokens) { return tokens.back() % 2; }

std::vector<TokenId> Tokens(int count, TokenId token) { return std::vector(count, token); }

class PrefixCacheTest : public testing::Test {
 protected:
  // Computes what `sequence` lacks of `tokens`; whatever it began with, its logits must be right.
  void Compute(engine::KvSequence& sequence, std::span<const TokenId> tokens) {
    const auto rest = tokens.subspan(static_cast<size_t>(sequence.length()));
    ASSERT_FALSE(rest.empty());
    std::vector<int32_t> rows(rest.size());
    std::iota(rows.begin(), rows.end(), 0);
    const std::vector<int32_t> last = {rows.back()};
    engine::ForwardOutput output;
    const engine::SequenceInput input{&sequence, rest, {}, last};
    const engine::Status status = engine_.Forward({&input, 1}, output);
    ASSERT_TRUE(status.ok()) << status.message();
    engine::HostVector<float> expected(kFakeVocab);
    FakeLogits(tokens, expected);
    ASSERT_EQ(output.logits, expected);
    ASSERT_TRUE(engine_.Commit(sequence, rows).ok());
  }

  // A request from its beginning to its end; returns how many tokens it found.
  int64_t Request(PrefixCache& cache, const std::string& tenant, std::span<const TokenId> tokens) {
    const auto sequence = cache.NewSequence(tenant, tokens);
    const int64_t found = sequence->length();
    Compute(*sequence, tokens);
    cache.Insert(tenant, tokens, *sequence);
    return found;
  }

  FakeEngine engine_;
};

TEST_F(PrefixCacheTest, FindsWholePagesButNeverTheLastToken) {
  PrefixCache cache(engine_, 100);
  EXPECT_EQ(Request(cache, "", Tokens(10, 1)), 0);
  EXPECT_EQ(cache.size(), 2);
  EXPECT_EQ(engine_.kv_pages_kept(), 2);
  for (int count = 1; count < 16; ++count) {
    EXPECT_EQ(cache.Find("", Tokens(count, 1)).size(),
              std::min<size_t>(2, (static_cast<size_t>(count) - 1) / kPage))
        << count;
  }
  EXPECT_TRUE(cache.Find("", {}).empty());
  std::vector<TokenId> other = Tokens(12, 1);
  other[5] = 2;
  EXPECT_EQ(Request(cache, "", other), 4);
  EXPECT_EQ(cache.size(), 4);
}

TEST_F(PrefixCacheTest, TenantsAreApart) {
  PrefixCache cache(engine_, 100, AllCollide);
  EXPECT_EQ(Request(cache, "one", Tokens(10, 1)), 0);
  EXPECT_EQ(Request(cache, "two", Tokens(10, 1)), 0);
  EXPECT_EQ(Request(cache, "", Tokens(10, 1)), 0);
  EXPECT_EQ(cache.size(), 6);
  EXPECT_EQ(Request(cache, "one", Tokens(10, 1)), 8);
}

TEST_F(PrefixCacheTest, KeepsTheSequencesPagesThatTokensSpeakOf) {
  PrefixCache cache(engine_, 100);
  const auto sequence = engine_.NewSequence();
  Compute(*sequence, Tokens(12, 1));
  // A stop string may have cut the tokens, and the last one is not computed yet.
  cache.Insert("", Tokens(9, 1), *sequence);
  EXPECT_EQ(cache.size(), 2);
  cache.Insert("", Tokens(17, 1), *sequence);
  EXPECT_EQ(cache.size(), 3);
}

TEST_F(PrefixCacheTest, WithoutRoomNothingIsKept) {
  PrefixCache cache(engine_, 0);
  EXPECT_EQ(Request(cache, "", Tokens(10, 1)), 0);
  EXPECT_EQ(Request(cache, "", Tokens(10, 1)), 0);
  EXPECT_EQ(cache.size(), 0);
  EXPECT_EQ(engine_.kv_pages_free(), engine_.info().kv_pages_total);
}

// A prefix longer than the capacity keeps its beginning.
TEST_F(PrefixCacheTest, TheCapacityHolds) {
  PrefixCache cache(engine_, 3);
  EXPECT_EQ(Request(cache, "", Tokens(40, 1)), 0);
  EXPECT_EQ(cache.size(), 3);
  EXPECT_EQ(Request(cache, "", Tokens(40, 1)), 12);
  EXPECT_EQ(Request(cache, "", Tokens(5, 2)), 0);
  EXPECT_EQ(Request(cache, "", Tokens(40, 1)), 8);
}

TEST_F(PrefixCacheTest, EvictsWhatIsNotUsedFirst) {
  PrefixCache cache(engine_, 100);
  Request(cache, "", Tokens(9, 1));
  const auto user = cache.NewSequence("", Tokens(9, 1));
  Request(cache, "", Tokens(9, 2));
  Request(cache, "", Tokens(9, 3));
  EXPECT_EQ(engine_.kv_pages_kept(), 4);
  cache.Evict(0);
  cache.Evict(-5);
  EXPECT_EQ(cache.size(), 6);
  // The oldest that nobody uses, its end first.
  cache.Evict(1);
  EXPECT_EQ(cache.Find("", Tokens(9, 1)).size(), 2u);
  EXPECT_EQ(cache.Find("", Tokens(9, 2)).size(), 1u);
  EXPECT_EQ(cache.Find("", Tokens(9, 3)).size(), 2u);
  // What is used is not worth dropping: that frees nothing.
  cache.Evict(1000);
  EXPECT_EQ(cache.size(), 2);
  EXPECT_EQ(engine_.kv_pages_kept(), 0);
  EXPECT_EQ(cache.Find("", Tokens(9, 1)).size(), 2u);
}

// Two compute the same beginning at once; the pages of one are kept, and the other's go on from
// them. When the first ends, only its beginning can be freed.
TEST_F(PrefixCacheTest, EvictsWhatPagesInUseContinue) {
  PrefixCache cache(engine_, 100);
  auto first = engine_.NewSequence(), second = engine_.NewSequence();
  Compute(*first, Tokens(4, 1));
  Compute(*second, Tokens(8, 1));
  cache.Insert("", Tokens(4, 1), *first);
  cache.Insert("", Tokens(8, 1), *second);
  EXPECT_EQ(cache.size(), 2);
  first.reset();
  EXPECT_EQ(engine_.kv_pages_kept(), 1);
  cache.Evict(1);
  EXPECT_EQ(engine_.kv_pages_kept(), 0);
  EXPECT_EQ(engine_.info().kv_pages_total - engine_.kv_pages_free(), 2);
  EXPECT_EQ(cache.size(), 0);
}

// Against a list of all beginnings with their last use.
TEST_F(PrefixCacheTest, RandomRequestsFindWhatASimpleListFinds) {
  for (const PrefixCache::BlockHash hash : {PrefixCache::DefaultHash, AllCollide, MostCollide}) {
    constexpr size_t kCapacity = 40;
    std::mt19937 random(11);
    PrefixCache cache(engine_, kCapacity, hash);
    using Beginning = std::pair<std::string, std::vector<TokenId>>;
    std::map<Beginning, int64_t> list;
    int64_t now = 0;
    int64_t hits = 0;
    const auto beginning = [](const std::string& tenant, std::span<const TokenId> tokens,
                              size_t pages) {
      return Beginning(tenant, {tokens.begin(), tokens.begin() + pages * kPage});
    };
    const auto drop_oldest = [&] {
      list.erase(std::min_element(list.begin(), list.end(), [](const auto& a, const auto& b) {
        return a.second < b.second;
      }));
    };
    const auto use = [&](const std::string& tenant, std::span<const TokenId> tokens, size_t pages) {
      for (size_t n = pages; n > 0; --n) list[beginning(tenant, tokens, n)] = now++;
      while (list.size() > kCapacity) drop_oldest();
    };
    for (int round = 0; round < 1500; ++round) {
      const std::string tenant(1, static_cast<char>('a' + random() % 2));
      std::vector<TokenId> tokens(1 + random() % 30);
      // Pages of few kinds, so that beginnings repeat.
      for (size_t i = 0; i < tokens.size(); i += kPage) {
        const TokenId kind = static_cast<TokenId>(random() % 3);
        for (size_t k = i; k < std::min(i + kPage, tokens.size()); ++k) {
          tokens[k] = kind + static_cast<TokenId>(k % 2);
        }
      }
      size_t expected = 0;
      while ((expected + 1) * kPage < tokens.size() &&
             list.contains(beginning(tenant, tokens, expected + 1))) {
        ++expected;
      }
      ASSERT_EQ(cache.Find(tenant, tokens).size(), expected) << round;
      use(tenant, tokens, expected);
      ASSERT_EQ(Request(cache, tenant, tokens), static_cast<int64_t>(expected * kPage)) << round;
      use(tenant, tokens, tokens.size() / kPage);
      hits += expected > 0;
      ASSERT_EQ(cache.size(), static_cast<int64_t>(list.size()));
      ASSERT_EQ(engine_.kv_pages_kept(), cache.size());
      if (random() % 20 == 0) {
        const size_t count = std::min<size_t>(random() % 10, list.size());
        cache.Evict(static_cast<int64_t>(count));
        for (size_t i = 0; i < count; ++i) drop_oldest();
        ASSERT_EQ(cache.size(), static_cast<int64_t>(list.size()));
      }
    }
    EXPECT_GT(hits, 300);
  }
  EXPECT_EQ(engine_.kv_pages_free(), engine_.info().kv_pages_total);
}

}  // namespace
}  // namespace strata::verify
