#include "common/metrics/page.h"

#include <cstddef>
#include <cstdint>
#include <limits>

namespace strata::metrics {

prometheus::ClientMetric& Page::Add(const std::string& name, const std::string& help,
                                    prometheus::MetricType type, const Labels& labels) {
  if (families_.empty() || families_.back().name != name) {
    families_.push_back({name, help, type, {}});
  }
  prometheus::ClientMetric& metric = families_.back().metric.emplace_back();
  for (const auto& [label, value] : labels) metric.label.push_back({label, value});
  return metric;
}

void Page::AddCounter(const std::string& name, const std::string& help, double value,
                      const Labels& labels) {
  Add(name, help, prometheus::MetricType::Counter, labels).counter.value = value;
}

void Page::AddGauge(const std::string& name, const std::string& help, double value,
                    const Labels& labels) {
  Add(name, help, prometheus::MetricType::Gauge, labels).gauge.value = value;
}

void Page::AddHistogram(const std::string& name, const std::string& help,
                        const HistogramSnapshot& histogram, const Labels& labels) {
  prometheus::ClientMetric::Histogram& out =
      Add(name, help, prometheus::MetricType::Histogram, labels).histogram;
  uint64_t cumulative = 0;
  for (size_t i = 0; i < histogram.counts.size(); ++i) {
    cumulative += histogram.counts[i];
    const double bound =
        i < histogram.bounds.size() ? histogram.bounds[i] : std::numeric_limits<double>::infinity();
    out.bucket.push_back({cumulative, bound});
  }
  // Of the buckets, so that they agree even while values come in.
  out.sample_count = cumulative;
  out.sample_sum = histogram.sum;
}

}  // namespace strata::metrics
