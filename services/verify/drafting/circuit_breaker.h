#ifndef STRATA_SERVICES_VERIFY_DRAFTING_CIRCUIT_BREAKER_H_
#define STRATA_SERVICES_VERIFY_DRAFTING_CIRCUIT_BREAKER_H_

#include <algorithm>

#include "absl/time/time.h"

namespace strata::verify {

struct CircuitBreakerOptions {
  // Misses in a row that open it.
  int max_misses = 5;
  // How long it stays open before one request may probe.
  absl::Duration cool_down = absl::Seconds(1);
  // Wait after a broken connection, doubled with each until cool_down.
  absl::Duration first_backoff = absl::Milliseconds(20);
};

// Decides when a service that does not answer is asked again. Closed: always. Open:
// not before a point in time, then one probe decides. Not thread-safe.
class CircuitBreaker {
 public:
  explicit CircuitBreaker(const CircuitBreakerOptions& options)
      : options_(options), backoff_(options.first_backoff) {}

  bool closed() const { return closed_; }
  // Whether a request may be made at `now`.
  bool Allows(absl::Time now) const { return closed_ || now >= retry_at_; }

  void OnAnswer() {
    closed_ = true;
    misses_ = 0;
    backoff_ = options_.first_backoff;
  }
  // No answer in time. True if this opened the breaker, or kept it open.
  bool OnMiss(absl::Time now) {
    if (closed_ && ++misses_ < options_.max_misses) return false;
    OpenUntil(now + options_.cool_down);
    return true;
  }
  // The connection broke: what follows cannot be answered until it is made anew.
  void OnBroken(absl::Time now) {
    OpenUntil(now + backoff_);
    backoff_ = std::min(backoff_ * 2, options_.cool_down);
  }
  // Stays open until `time`.
  void OpenUntil(absl::Time time) {
    closed_ = false;
    misses_ = 0;
    retry_at_ = time;
  }

 private:
  const CircuitBreakerOptions options_;
  bool closed_ = true;
  int misses_ = 0;
  absl::Duration backoff_;
  absl::Time retry_at_ = absl::InfinitePast();
};

}  // namespace strata::verify

#endif  // STRATA_SERVICES_VERIFY_DRAFTING_CIRCUIT_BREAKER_H_
