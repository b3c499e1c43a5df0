#include "services/client/call.h"

#include <chrono>
#include <cstdio>
#include <memory>

#include "absl/status/status.h"
#include "common/rpc/client_trace.h"
#include "common/rpc/status.h"
#include "services/client/exit_codes.h"

namespace strata::client {

void SetTimeout(double timeout_s, grpc::ClientContext& context) {
  if (timeout_s <= 0) return;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::microseconds(static_cast<int64_t>(timeout_s * 1e6)));
}

absl::StatusOr<Answer> Generate(v1::GenerateService::Stub& stub, const v1::GenerateRequest& request,
                                double timeout_s, Interrupt& interrupt,
                                const std::function<bool(const v1::GenerateResponse&)>& on_message,
                                const std::string& traceparent) {
  grpc::ClientContext context;
  if (!traceparent.empty()) context.AddMetadata(rpc::kTraceparentKey, traceparent);
  SetTimeout(timeout_s, context);
  const Interrupt::Scope scope(interrupt, context);
  const std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader =
      stub.Generate(&context, request);
  Answer answer;
  v1::GenerateResponse message;
  bool wanted = true;
  while (reader->Read(&message)) {
    answer.token_ids.insert(answer.token_ids.end(), message.token_ids().begin(),
                            message.token_ids().end());
    answer.text += message.text();
    answer.logprobs.insert(answer.logprobs.end(), message.logprobs().begin(),
                           message.logprobs().end());
    if (message.finish_reason() != v1::FINISH_REASON_UNSPECIFIED) {
      answer.finish_reason = message.finish_reason();
    }
    if (message.has_statistics()) answer.statistics = message.statistics();
    if (wanted && on_message && !on_message(message)) {
      wanted = false;
      context.TryCancel();
    }
  }
  const absl::Status status = rpc::FromGrpcStatus(reader->Finish(), context);
  if (!status.ok()) return status;
  if (answer.finish_reason == v1::FINISH_REASON_UNSPECIFIED) {
    return absl::DataLossError("the answer ended without its last message");
  }
  return answer;
}

int ReportError(const absl::Status& status, const Interrupt& interrupt, int code) {
  if (interrupt.interrupted()) {
    std::fprintf(stderr, "strata: interrupted\n");
    return kInterrupted;
  }
  std::fprintf(stderr, "strata: %s\n",
               status.ToString(absl::StatusToStringMode::kWithNoExtraData).c_str());
  return code;
}

}  // namespace strata::client
