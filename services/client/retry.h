#ifndef STRATA_SERVICES_CLIENT_RETRY_H_
#define STRATA_SERVICES_CLIENT_RETRY_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/client/call.h"
#include "services/client/interrupt.h"
#include "strata/v1/generate.grpc.pb.h"

namespace strata::client {

struct RetryOptions {
  // How often a request is asked again at most.
  int retries = 3;
  // Pause before the first of them, doubled with each up to `longest_pause`; where the service says
  // when to come again, at least that long.
  absl::Duration first_pause = absl::Milliseconds(100);
  absl::Duration longest_pause = absl::Seconds(2);
  // For all attempts together, in seconds; 0 is no limit.
  double timeout_s = 0;
  // Goes along with each, as Generate has it.
  std::string traceparent;
};

// Whether the call failed because a service went away, not because of what it was asked: the same
// request may succeed, here after a restart or at another service.
bool WentAway(const absl::Status& status);

// As Generate (call.h), but asks again where a service went away, in mid-answer too: `on_message`
// gets every token once, and the answer is the last attempt's, whole. A request that is sampled
// without a seed gets one, so that all attempts are for the same tokens. DATA_LOSS if two services
// gave other tokens for it. Says on standard error when it asks again.
absl::StatusOr<Answer> GenerateWithRetries(
    v1::GenerateService::Stub& stub, v1::GenerateRequest request, const RetryOptions& options,
    Interrupt& interrupt, const std::function<bool(const v1::GenerateResponse&)>& on_message);

}  // namespace strata::client

#endif  // STRATA_SERVICES_CLIENT_RETRY_H_
