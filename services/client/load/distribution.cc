#include "services/client/load/distribution.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace strata::client::load {

double Percentile(std::span<const double> sorted, double percent) {
  if (sorted.empty()) return 0;
  const double rank = std::ceil(percent / 100 * static_cast<double>(sorted.size()));
  return sorted[static_cast<size_t>(std::max(rank, 1.0)) - 1];
}

Distribution Describe(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  return {.count = values.size(),
          .mean = std::accumulate(values.begin(), values.end(), 0.0) /
                  static_cast<double>(values.size()),
          .p50 = Percentile(values, 50),
          .p95 = Percentile(values, 95),
          .p99 = Percentile(values, 99),
          .max = values.back()};
}

}  // namespace strata::client::load
