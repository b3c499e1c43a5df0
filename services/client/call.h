#ifndef STRATA_SERVICES_CLIENT_CALL_H_
#define STRATA_SERVICES_CLIENT_CALL_H_

#include <grpcpp/client_context.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/client/interrupt.h"
#include "strata/v1/generate.grpc.pb.h"

namespace strata::client {

// A whole answer.
struct Answer {
  std::vector<uint32_t> token_ids;
  std::string text;
  std::vector<v1::TokenLogprob> logprobs;
  v1::FinishReason finish_reason = v1::FINISH_REASON_UNSPECIFIED;
  v1::GenerationStatistics statistics;
  // How often it was asked for again, because a service went away (retry.h).
  int retries = 0;
};

// Sets the deadline `timeout_s` from now, unless it is 0.
void SetTimeout(double timeout_s, grpc::ClientContext& context);

// Calls Generate and gathers the answer; hands each message to `on_message`
// (may be null) as it comes, whose `false` cancels the call. The error is the
// service's, with what it says of trying again (common/base/retry_after.h);
// DATA_LOSS if the stream ended well without a last message. `traceparent` goes along
// as metadata unless it is empty.
absl::StatusOr<Answer> Generate(v1::GenerateService::Stub& stub, const v1::GenerateRequest& request,
                                double timeout_s, Interrupt& interrupt,
                                const std::function<bool(const v1::GenerateResponse&)>& on_message,
                                const std::string& traceparent = "");

// Prints "strata: NAME: message" and returns the exit code: kInterrupted if a signal
// ended the call, or else `code`.
int ReportError(const absl::Status& status, const Interrupt& interrupt, int code);

}  // namespace strata::client

#endif  // STRATA_SERVICES_CLIENT_CALL_H_
