#include "services/client/retry.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <random>
#include <utility>

#include "absl/random/random.h"
#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "common/base/retry_after.h"
#include "services/client/resumption.h"

namespace strata::client {
namespace {

using Clock = std::chrono::steady_clock;

// Seconds left of `timeout_s`, of which 0 is no limit; nothing left is a time that has passed at
// once.
double SecondsLeft(double timeout_s, Clock::time_point start) {
  if (timeout_s <= 0) return 0;
  const double gone = std::chrono::duration<double>(Clock::now() - start).count();
  return std::max(timeout_s - gone, 1e-6);
}

// Spread out, so that all who lost the same service do not come back at the same moment.
absl::Duration Pause(const RetryOptions& options, int attempt, const absl::Status& error) {
  const absl::Duration most =
      std::min(options.first_pause * std::exp2(std::min(attempt, 30)), options.longest_pause);
  absl::BitGen random;
  const absl::Duration pause = most * absl::Uniform(random, 0.5, 1.0);
  return std::max(pause, RetryAfter(error).value_or(absl::ZeroDuration()));
}

}  // namespace

bool WentAway(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    // Whoever calls knows that it was not this side that cancelled: a service whose time to drain
    // is over does.
    case absl::StatusCode::kCancelled:
      return true;
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnknown:
      // gRPC's own words for a stream that the peer's transport gave up; the service's own errors
      // have these codes too.
      return absl::StrContains(status.message(), "RST_STREAM") ||
             absl::StrContains(status.message(), "Stream removed");
    default:
      return false;
  }
}

absl::StatusOr<Answer> GenerateWithRetries(
    v1::GenerateService::Stub& stub, v1::GenerateRequest request, const RetryOptions& options,
    Interrupt& interrupt, const std::function<bool(const v1::GenerateResponse&)>& on_message) {
  if (options.retries > 0 && request.sampling().temperature() > 0 &&
      !request.sampling().has_seed()) {
    absl::BitGen random;
    request.mutable_sampling()->set_seed(absl::Uniform<uint64_t>(random));
  }
  const Clock::time_point start = Clock::now();
  Resumption resumption;
  for (int attempt = 0;; ++attempt) {
    resumption.Restart();
    absl::Status same;
    bool wanted = true;
    const auto take = [&](const v1::GenerateResponse& message) {
      v1::GenerateResponse fresh = message;
      same = resumption.Take(fresh);
      if (same.ok() && on_message) wanted = on_message(fresh);
      return same.ok() && wanted;
    };
    absl::StatusOr<Answer> answer = Generate(stub, request, SecondsLeft(options.timeout_s, start),
                                             interrupt, take, options.traceparent);
    if (answer.ok()) same.Update(resumption.CheckWhole());
    if (!same.ok()) return same;
    if (answer.ok()) {
      answer->retries = attempt;
      return answer;
    }
    const absl::Status& error = answer.status();
    if (!wanted || interrupt.interrupted() || attempt >= options.retries || !WentAway(error)) {
      return answer;
    }
    const absl::Duration pause = Pause(options, attempt, error);
    if (options.timeout_s > 0 && pause >= absl::Seconds(SecondsLeft(options.timeout_s, start))) {
      return answer;
    }
    std::fprintf(stderr, "strata: %s; asking again (%d of %d)\n",
                 error.ToString(absl::StatusToStringMode::kWithNoExtraData).c_str(), attempt + 1,
                 options.retries);
    absl::SleepFor(pause);
  }
}

}  // namespace strata::client
