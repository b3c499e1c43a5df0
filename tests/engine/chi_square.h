#ifndef STRATA_TESTS_ENGINE_CHI_SQUARE_H_
#define STRATA_TESTS_ENGINE_CHI_SQUARE_H_

#include <gtest/gtest.h>

#include <cmath>
#include <span>

namespace strata::testing {

// `quantile` of the standard normal distribution, of chi-square by Wilson and Hilferty.
inline double ChiSquareLimit(int degrees, double quantile) {
  const double a = 2.0 / (9.0 * degrees);
  return degrees * std::pow(1 - a + quantile * std::sqrt(a), 3);
}
inline constexpr double kQuantile999 = 3.0902;
inline constexpr double kQuantile99999 = 4.2649;

// Expects that `counts` are draws from `expected` (probabilities that sum to 1): nothing where the
// probability is 0, and chi-square below its quantile. Cells that expect fewer than 8 draws are
// merged into one. Returns the number of cells.
inline int ExpectDrawnFrom(std::span<const int> counts, std::span<const double> expected,
                           double quantile = kQuantile999) {
  double draws = 0;
  for (const int count : counts) draws += count;
  double statistic = 0, rest_expected = 0, rest_count = 0;
  int cells = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    const double mean = expected[i] * draws;
    if (expected[i] == 0) {
      EXPECT_EQ(counts[i], 0) << "token " << i << " was filtered out";
    } else if (mean < 8) {
      rest_expected += mean;
      rest_count += counts[i];
    } else {
      statistic += (counts[i] - mean) * (counts[i] - mean) / mean;
      ++cells;
    }
  }
  if (rest_expected > 1) {
    statistic += (rest_count - rest_expected) * (rest_count - rest_expected) / rest_expected;
    ++cells;
  }
  if (cells > 1) {
    EXPECT_LT(statistic, ChiSquareLimit(cells - 1, quantile)) << cells << " cells";
  }
  return cells;
}

}  // namespace strata::testing

#endif  // STRATA_TESTS_ENGINE_CHI_SQUARE_H_
