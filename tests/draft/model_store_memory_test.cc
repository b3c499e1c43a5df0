// What a model store says that it holds, beside what it holds of the allocator.

#include <gtest/gtest.h>
#include <malloc.h>

#include <functional>
#include <string>

#include "services/draft/tiers/model_store.h"
#include "tests/draft/test_util.h"

namespace strata::draft {
namespace {

constexpr size_t kMiB = 1 << 20;

// Bytes that are allocated, in chunks and in mappings of their own.
size_t Allocated() {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

ModelKey KeyOf(int tenant) { return {"model", "fp", "tenant " + std::to_string(tenant)}; }

void Teach(ModelStore& store, int tenant, std::mt19937& random, int vocabulary) {
  const Tokens tokens = RandomTokens(random, 72, vocabulary);
  store.Learn(KeyOf(tenant), tokens, 0, static_cast<uint32_t>(tokens.size()));
}

struct Case {
  const char* name;
  int tenants;
  std::function<void(ModelStore&, std::mt19937&)> fill;
};

TEST(MemoryOfAStoreTest, IsWhatItSays) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the sanitizer allocates in another way";
#endif
  const Case cases[] = {
      {"one tenant, below the limit", 1,
       [](ModelStore& store, std::mt19937& random) {
         for (int i = 0; i < 1000; ++i) Teach(store, 0, random, 40000);
       }},
      {"one tenant, which forgets", 1,
       [](ModelStore& store, std::mt19937& random) {
         for (int i = 0; i < 1500; ++i) Teach(store, 0, random, 40000);
       }},
      {"text that repeats itself", 1,
       [](ModelStore& store, std::mt19937& random) {
         for (int i = 0; i < 1500; ++i) Teach(store, 0, random, 30);
       }},
      {"many tenants, which forget", 200,
       [](ModelStore& store, std::mt19937& random) {
         for (int i = 0; i < 1500; ++i) {
           Teach(store, static_cast<int>(random() % 200), random, 40000);
         }
       }},
      {"rankings and calibrations", 4,
       [](ModelStore& store, std::mt19937& random) {
         for (int tenant = 0; tenant < 4; ++tenant) {
           Teach(store, tenant, random, 100);
           RowRanking row;
           row.size = 1;
           store.LearnRankings(KeyOf(tenant), {&row, 1});
           store.SetCalibration(KeyOf(tenant), std::string(100'000, 'c'));
         }
       }},
  };
  for (const Case& one : cases) {
    std::mt19937 random(1);
    std::vector<std::string> warnings;
    const auto store = ModelStore::Open({.max_bytes = 16 * kMiB}, &warnings);
    ASSERT_TRUE(store.ok()) << store.status();
    const size_t before = Allocated();
    one.fill(**store, random);
    const size_t held = Allocated() - before;
    const size_t says = (*store)->bytes();
    // The allocator's headers, and what it keeps for the next request of this thread; and of each
    // tenant about 5 KiB that are not counted.
    const size_t beside = says / 50 + (256 << 10) + static_cast<size_t>(one.tenants) * 8 * 1024;
    EXPECT_LE(held, says + beside) << one.name;
    EXPECT_GE(held + (256 << 10), says - says / 50) << one.name;
    EXPECT_LE(says, 16 * kMiB) << one.name;
  }
}

}  // namespace
}  // namespace strata::draft
