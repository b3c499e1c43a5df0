#include "tests/bench/draft/judge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <vector>

namespace strata::draft_bench {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kMib = 1 << 20;

std::vector<SoakSample> Samples(
    const std::function<double(int)>& rss_mib,
    const std::function<double(int)>& tiers_mib = [](int) { return 60.0; }) {
  std::vector<SoakSample> samples;
  for (int percent = 1; percent <= 100; ++percent) {
    samples.push_back({.rss_bytes = static_cast<uint64_t>(rss_mib(percent) * kMib),
                       .model_tier_bytes = static_cast<uint64_t>(tiers_mib(percent) * kMib)});
  }
  return samples;
}

TEST(JudgeMemoryTest, ASlowLeakInTheSecondHalfFails) {
  // 8 MiB in 50,000 sequences are 168 bytes each.
  const auto status = JudgeMemory(Samples([](int percent) { return 110 + 0.16 * percent; }));
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("memory grew from 116.56 MiB"));
}

TEST(JudgeMemoryTest, MemoryThatRisesAtFirstOrForAWhilePasses) {
  EXPECT_TRUE(
      JudgeMemory(Samples([](int percent) { return percent < 40 ? 50 + percent : 120; })).ok());
  // Saves, each at another time.
  EXPECT_TRUE(JudgeMemory(Samples([](int percent) { return percent % 7 == 0 ? 150 : 110; })).ok());
  EXPECT_TRUE(JudgeMemory(Samples([](int percent) { return 110 + 0.05 * percent; })).ok());
}

TEST(JudgeMemoryTest, ModelTiersMayFillUp) {
  const auto grows = [](int percent) { return 50 + 0.3 * percent; };
  EXPECT_TRUE(JudgeMemory(Samples(grows, [](int percent) { return 0.3 * percent; })).ok());
  EXPECT_FALSE(JudgeMemory(Samples(grows, [](int percent) { return 64 - 0.3 * percent; })).ok());
}

TEST(JudgeSwapTest, ASlowPercentileFails) {
  replay::Samples before, during;
  for (int i = 1; i <= 100; ++i) {
    before.Add(i);
    during.Add(2 * i);
  }
  EXPECT_TRUE(JudgeSwap(before, during, 2).ok());
  const auto status = JudgeSwap(before, during, 1.9);
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("during swaps is 198 us, before 99 us"));
}

}  // namespace
}  // namespace strata::draft_bench
