#ifndef STRATA_SERVICES_CLIENT_LOAD_DISTRIBUTION_H_
#define STRATA_SERVICES_CLIENT_LOAD_DISTRIBUTION_H_

#include <cstddef>
#include <span>
#include <vector>

namespace strata::client::load {

// The smallest value that at least `percent` % of `sorted` do not exceed (nearest rank: always one
// that was measured); 0 without values. 0 <= percent <= 100.
double Percentile(std::span<const double> sorted, double percent);

// What is told of a number of measured values. All 0 if `count` is.
struct Distribution {
  size_t count = 0;
  double mean = 0;
  double p50 = 0;
  double p95 = 0;
  double p99 = 0;
  double max = 0;
};
Distribution Describe(std::vector<double> values);

}  // namespace strata::client::load

#endif  // STRATA_SERVICES_CLIENT_LOAD_DISTRIBUTION_H_
