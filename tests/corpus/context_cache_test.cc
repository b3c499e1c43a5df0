#include "services/draft/corpus/context_cache.h"

#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>
#include <vector>

namespace strata::draft {
namespace {

// A context all of whose numbers follow from `n`, so that a mixture of two shows.
CachedContext Context(uint32_t n) {
  CachedContext context;
  context.present = n % 5 != 0;
  context.children = static_cast<Children>(n % 3);
  context.row_order = static_cast<uint8_t>(1 + n % 8);
  context.counts.order = static_cast<uint8_t>(1 + n % 7);
  context.counts.size = static_cast<uint8_t>(context.present ? 1 + n % kMaxContinuations : 0);
  context.counts.total = n;
  for (int i = 0; i < context.counts.size; ++i) {
    context.counts.continuations[i] = {static_cast<TokenId>(n + static_cast<uint32_t>(i)), ~n};
  }
  return context;
}

bool Same(const CachedContext& a, const CachedContext& b) {
  if (a.present != b.present) return false;
  if (!a.present) return true;
  if (a.children != b.children || a.row_order != b.row_order || a.counts.order != b.counts.order ||
      a.counts.size != b.counts.size || a.counts.total != b.counts.total) {
    return false;
  }
  for (int i = 0; i < a.counts.size; ++i) {
    if (a.counts.continuations[i].token != b.counts.continuations[i].token ||
        a.counts.continuations[i].count != b.counts.continuations[i].count) {
      return false;
    }
  }
  return true;
}

uint64_t Tag(uint32_t n) { return (n + 1) * 0x9E3779B97F4A7C15u; }

TEST(ContextCache, GivesBackWhatWasPutOrNothing) {
  ContextCache cache(100000);
  EXPECT_LE(cache.bytes(), 100000u);
  CachedContext out;
  EXPECT_FALSE(cache.Find(Tag(1), out));
  uint32_t found = 0;
  for (uint32_t n = 0; n < 5000; ++n) {
    cache.Put(Tag(n), Context(n));
    ASSERT_TRUE(cache.Find(Tag(n), out));
    EXPECT_TRUE(Same(out, Context(n))) << n;
  }
  for (uint32_t n = 0; n < 5000; ++n) {
    if (!cache.Find(Tag(n), out)) continue;
    ++found;
    EXPECT_TRUE(Same(out, Context(n))) << n;
  }
  // Full, and of the latest.
  EXPECT_GT(found, 800u);
  EXPECT_LT(found, 1100u);
  cache.Put(Tag(4999), Context(7));
  ASSERT_TRUE(cache.Find(Tag(4999), out));
  EXPECT_TRUE(Same(out, Context(7)));
  cache.Clear();
  for (uint32_t n = 0; n < 5000; ++n) EXPECT_FALSE(cache.Find(Tag(n), out));
}

TEST(ContextCache, MayHoldNothing) {
  ContextCache cache(100);
  EXPECT_EQ(cache.bytes(), 0u);
  cache.Prefetch(1);
  cache.Put(1, Context(1));
  CachedContext out;
  EXPECT_FALSE(cache.Find(1, out));
  cache.Clear();
}

// Few sets and many threads: what is found is always one whole entry of that tag.
TEST(ContextCache, ReadersNeverSeeAMixture) {
  ContextCache cache(2000);
  std::atomic<int> wrong{0}, hits{0};
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      CachedContext out;
      for (int i = 0; i < 50000; ++i) {
        const uint32_t tag = random() % 16;
        if (random() % 2 == 0) {
          cache.Put(Tag(tag), Context(tag + 16 * (random() % 100)));
        } else if (cache.Find(Tag(tag), out)) {
          ++hits;
          const uint32_t n = out.counts.total;
          wrong += (out.present && (n % 16 != tag || !Same(out, Context(n)))) ? 1 : 0;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(hits, 1000);
}

}  // namespace
}  // namespace strata::draft
