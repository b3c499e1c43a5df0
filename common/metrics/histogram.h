#ifndef STRATA_COMMON_METRICS_HISTOGRAM_H_
#define STRATA_COMMON_METRICS_HISTOGRAM_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/metrics/counter.h"

namespace strata::metrics {

// Upper bounds for anything between a look-up in memory and a long answer, in seconds.
inline constexpr std::array kSecondsBounds = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01,
                                              0.025,  0.05,    0.1,    0.25,  0.5,    1.0,   2.5,
                                              5.0,    10.0,    30.0,   60.0,  300.0};

struct HistogramSnapshot {
  // counts[i]: values in (bounds[i - 1], bounds[i]]; the last count is of those above all bounds.
  std::vector<double> bounds;
  std::vector<uint64_t> counts;
  double sum = 0;
};

// How many durations fell between which bounds. Thread-safe, without a lock.
class SecondsHistogram {
 public:
  void Observe(double seconds) {
    const auto bound = std::lower_bound(kSecondsBounds.begin(), kSecondsBounds.end(), seconds);
    counts_[static_cast<size_t>(bound - kSecondsBounds.begin())].Add(1);
    sum_.Add(seconds);
  }

  HistogramSnapshot Snapshot() const {
    HistogramSnapshot snapshot;
    snapshot.bounds.assign(kSecondsBounds.begin(), kSecondsBounds.end());
    for (const Counter& count : counts_) snapshot.counts.push_back(count.value());
    snapshot.sum = sum_.value();
    return snapshot;
  }

 private:
  std::array<Counter, kSecondsBounds.size() + 1> counts_;
  Sum sum_;
};

}  // namespace strata::metrics

#endif  // STRATA_COMMON_METRICS_HISTOGRAM_H_
