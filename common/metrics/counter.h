#ifndef STRATA_COMMON_METRICS_COUNTER_H_
#define STRATA_COMMON_METRICS_COUNTER_H_

#include <atomic>
#include <cstdint>

namespace strata::metrics {

// A number that only rises, or a gauge. Raised where the work is done and read at any time by who
// asks: no lock, so that nobody is ever held up. Several of them are not read as of one moment.
// Thread-safe.
template <typename T>
class Value {
 public:
  void Add(T more) { value_.fetch_add(more, std::memory_order_relaxed); }
  void Set(T value) { value_.store(value, std::memory_order_relaxed); }
  T value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<T> value_ = 0;
};

using Counter = Value<uint64_t>;
using Sum = Value<double>;
using Gauge = Value<int64_t>;

}  // namespace strata::metrics

#endif  // STRATA_COMMON_METRICS_COUNTER_H_
