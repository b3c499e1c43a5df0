#include "services/verify/engine/ranking.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

namespace strata::engine {
namespace {

std::vector<int32_t> Top(const std::vector<float>& logits, size_t count) {
  std::vector<float> maxima(static_cast<size_t>(LogitBlocks(static_cast<int64_t>(logits.size()))));
  BlockMaxima(logits, maxima.data());
  std::vector<int32_t> top(count, -7);
  top.resize(static_cast<size_t>(TopTokens(logits, maxima, top)));
  return top;
}

// By sorting everything.
std::vector<int32_t> Expected(const std::vector<float>& logits, size_t count) {
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto value = [&](int32_t id) {
    return std::isnan(logits[id]) ? -std::numeric_limits<float>::infinity() : logits[id];
  };
  std::stable_sort(ids.begin(), ids.end(),
                   [&](int32_t a, int32_t b) { return value(a) > value(b); });
  ids.resize(std::min(count, ids.size()));
  return ids;
}

TEST(RankingTest, RandomRowsOfEverySizeWithTies) {
  std::mt19937 random(4);
  for (int trial = 0; trial < 400; ++trial) {
    std::vector<float> logits(1 + random() % 1000);
    // Few values, so that ties are many.
    const uint32_t values = 1 + random() % (trial % 2 == 0 ? 10 : 100000);
    for (float& logit : logits) logit = static_cast<float>(random() % values) - 3.0f;
    for (const size_t count : {1, 2, 8, 33}) {
      ASSERT_EQ(Top(logits, count), Expected(logits, count)) << "trial " << trial;
    }
  }
}

TEST(RankingTest, NanAndInfinities) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(Top({nan, -inf, 1.0f, nan, inf}, 3), (std::vector<int32_t>{4, 2, 0}));
  std::vector<float> row(200, -inf);
  row[150] = nan;
  row[199] = -1.0f;
  EXPECT_EQ(Top(row, 2), (std::vector<int32_t>{199, 0}));
}

TEST(RankingTest, NothingAskedNothingGiven) { EXPECT_TRUE(Top({1.0f, 2.0f}, 0).empty()); }

}  // namespace
}  // namespace strata::engine
