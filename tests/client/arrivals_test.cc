#include "services/client/load/arrivals.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "services/client/load/loops.h"

namespace strata::client::load {
namespace {

constexpr size_t kMany = 100'000;

std::vector<double> Gaps(double rate, uint64_t seed) {
  PoissonArrivals arrivals(rate, seed);
  std::vector<double> gaps;
  double before = 0;
  for (size_t i = 0; i < kMany; ++i) {
    const double now = arrivals.Next();
    gaps.push_back(now - before);
    before = now;
  }
  return gaps;
}

double Mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

double Correlation(const std::vector<double>& a, const std::vector<double>& b) {
  const double mean_a = Mean(a);
  const double mean_b = Mean(b);
  double ab = 0;
  double aa = 0;
  double bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    ab += (a[i] - mean_a) * (b[i] - mean_b);
    aa += (a[i] - mean_a) * (a[i] - mean_a);
    bb += (b[i] - mean_b) * (b[i] - mean_b);
  }
  return ab / std::sqrt(aa * bb);
}

// The mean of 100,000 gaps is within 1 % of 1/rate in all but 0.2 % of seeds, and these are fixed.
TEST(PoissonArrivals, GapsAreExponential) {
  for (const double rate : {0.5, 20.0}) {
    for (const uint64_t seed : {0, 1, 2}) {
      const std::vector<double> gaps = Gaps(rate, seed);
      const double mean = Mean(gaps);
      EXPECT_NEAR(mean * rate, 1, 0.01) << rate << ", seed " << seed;
      size_t above = 0;
      double squares = 0;
      for (const double gap : gaps) {
        ASSERT_GE(gap, 0);
        above += gap > 1 / rate ? 1 : 0;
        squares += (gap - mean) * (gap - mean);
      }
      // An exponential variable's deviation is its mean, and 1/e of it is above that.
      EXPECT_NEAR(std::sqrt(squares / kMany) * rate, 1, 0.02);
      EXPECT_NEAR(static_cast<double>(above) / kMany, std::exp(-1), 0.01);
      // Nothing is remembered from one gap to the next.
      EXPECT_NEAR(Correlation({gaps.begin(), gaps.end() - 1}, {gaps.begin() + 1, gaps.end()}), 0,
                  0.015);
    }
  }
}

TEST(PoissonArrivals, ASeedIsRepeatable) {
  EXPECT_EQ(Gaps(3, 7), Gaps(3, 7));
  // The rate scales the same process.
  EXPECT_DOUBLE_EQ(PoissonArrivals(3, 7).Next(), 2 * PoissonArrivals(6, 7).Next());
}

TEST(PoissonArrivals, SeedsAreIndependent) {
  const std::vector<double> first = Gaps(1, 1);
  EXPECT_NEAR(Correlation(first, Gaps(1, 2)), 0, 0.015);
  EXPECT_NEAR(Correlation(first, Gaps(1, PartSeed(1, 0))), 0, 0.015);
  EXPECT_NEAR(Correlation(Gaps(1, PartSeed(1, 0)), Gaps(1, PartSeed(1, 1))), 0, 0.015);
}

TEST(PartSeed, PartsDiffer) {
  std::set<uint64_t> seeds;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    for (uint64_t part = 0; part < 10; ++part) {
      seeds.insert(PartSeed(seed, part));
      for (uint64_t round = 0; round < 10; ++round) {
        seeds.insert(PartSeed(PartSeed(seed, part), round));
      }
    }
  }
  EXPECT_EQ(seeds.size(), 1100u);
}

TEST(MakeArrivals, ANumberOrATime) {
  const std::vector<double> some = MakeArrivals(10, {.requests = 50}, 1);
  EXPECT_EQ(some.size(), 50u);
  EXPECT_TRUE(std::is_sorted(some.begin(), some.end()));
  const std::vector<double> all = MakeArrivals(10, {.seconds = 100}, 1);
  EXPECT_NEAR(static_cast<double>(all.size()), 1000, 150);
  EXPECT_LT(all.back(), 100);
  EXPECT_TRUE(std::equal(some.begin(), some.end(), all.begin()));
}

}  // namespace
}  // namespace strata::client::load
