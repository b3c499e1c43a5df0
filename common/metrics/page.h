#ifndef STRATA_COMMON_METRICS_PAGE_H_
#define STRATA_COMMON_METRICS_PAGE_H_

#include <prometheus/metric_family.h>

#include <string>
#include <utility>
#include <vector>

#include "common/metrics/histogram.h"

namespace strata::metrics {

// One answer to a scrape, filled in by those who have the numbers. Calls with the same name must
// follow each other and differ in their labels. Names and labels are constants of the program, but
// for the values of labels, which may be any text. Not thread-safe.
class Page {
 public:
  using Labels = std::vector<std::pair<std::string, std::string>>;

  // `name` ends in _total.
  void AddCounter(const std::string& name, const std::string& help, double value,
                  const Labels& labels = {});
  void AddGauge(const std::string& name, const std::string& help, double value,
                const Labels& labels = {});
  // A gauge of 1 whose labels are what it tells; `name` ends in _info.
  void AddInfo(const std::string& name, const std::string& help, const Labels& labels) {
    AddGauge(name, help, 1, labels);
  }
  void AddHistogram(const std::string& name, const std::string& help,
                    const HistogramSnapshot& histogram, const Labels& labels = {});

  std::vector<prometheus::MetricFamily> TakeFamilies() { return std::exchange(families_, {}); }

 private:
  prometheus::ClientMetric& Add(const std::string& name, const std::string& help,
                                prometheus::MetricType type, const Labels& labels);

  std::vector<prometheus::MetricFamily> families_;
};

}  // namespace strata::metrics

#endif  // STRATA_COMMON_METRICS_PAGE_H_
