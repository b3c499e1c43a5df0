#include "services/client/load/distribution.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace strata::client::load {
namespace {

std::vector<double> OneTo(int last) {
  std::vector<double> values(static_cast<size_t>(last));
  std::iota(values.begin(), values.end(), 1.0);
  return values;
}

TEST(Percentile, IsNearestRank) {
  const std::vector<double> values = OneTo(100);
  EXPECT_EQ(Percentile(values, 0), 1);
  EXPECT_EQ(Percentile(values, 50), 50);
  EXPECT_EQ(Percentile(values, 95), 95);
  EXPECT_EQ(Percentile(values, 99), 99);
  EXPECT_EQ(Percentile(values, 99.1), 100);
  EXPECT_EQ(Percentile(values, 100), 100);
}

TEST(Percentile, OfFewValuesIsOneOfThem) {
  EXPECT_EQ(Percentile({}, 50), 0);
  const std::vector<double> one = {7};
  EXPECT_EQ(Percentile(one, 0), 7);
  EXPECT_EQ(Percentile(one, 99), 7);
  const std::vector<double> two = {1, 2};
  EXPECT_EQ(Percentile(two, 50), 1);
  EXPECT_EQ(Percentile(two, 51), 2);
}

TEST(Describe, SortsWhatItIsGiven) {
  std::vector<double> values = OneTo(20);
  std::reverse(values.begin(), values.end());
  const Distribution distribution = Describe(values);
  EXPECT_EQ(distribution.count, 20u);
  EXPECT_EQ(distribution.mean, 10.5);
  EXPECT_EQ(distribution.p50, 10);
  EXPECT_EQ(distribution.p95, 19);
  EXPECT_EQ(distribution.p99, 20);
  EXPECT_EQ(distribution.max, 20);
}

TEST(Describe, OfNothing) {
  EXPECT_EQ(Describe({}).count, 0u);
  EXPECT_EQ(Describe({}).max, 0);
}

}  // namespace
}  // namespace strata::client::load
