#include "tests/bench/draft/draft_client.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"

namespace strata::draft_bench {
namespace {

constexpr std::chrono::seconds kTimeout(10);

absl::Status ToAbsl(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      absl::StrCat("the draft service: ", status.error_message()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<v1::DraftService::Stub>> Connect(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  const auto channel =
      grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  if (!channel->WaitForConnected(std::chrono::system_clock::now() + kTimeout)) {
    return absl::UnavailableError(absl::StrCat("no draft service answers at ", address));
  }
  return v1::DraftService::NewStub(channel);
}

absl::StatusOr<v1::GetDraftInfoResponse> GetInfo(v1::DraftService::Stub& stub) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kTimeout);
  v1::GetDraftInfoResponse info;
  const absl::Status status = ToAbsl(stub.GetDraftInfo(&context, v1::GetDraftInfoRequest(), &info));
  if (!status.ok()) return status;
  return info;
}

DraftStream::DraftStream(v1::DraftService::Stub& stub, v1::Handshake handshake)
    : handshake_(std::move(handshake)), stream_(stub.DraftStream(&context_)) {}

DraftStream::~DraftStream() { Cut(); }

absl::Status DraftStream::Send(v1::DraftRequest& request) {
  if (stream_ == nullptr) return absl::FailedPreconditionError("the stream has ended");
  request.set_step(++step_);
  if (step_ == 1) *request.mutable_handshake() = handshake_;
  return stream_->Write(request) ? absl::OkStatus() : End();
}

absl::Status DraftStream::Exchange(v1::DraftRequest& request, v1::DraftResponse& response) {
  absl::Status status = Send(request);
  if (!status.ok()) return status;
  if (!stream_->Read(&response)) return End();
  if (response.step() == request.step() && response.answers_size() == request.sequences_size()) {
    return absl::OkStatus();
  }
  return absl::InternalError("the draft service answered another message");
}

absl::Status DraftStream::End() {
  absl::Status status = ToAbsl(stream_->Finish());
  stream_.reset();
  return status.ok() ? absl::UnavailableError("the draft service ended the stream") : status;
}

absl::Status DraftStream::Finish() {
  if (stream_ == nullptr) return absl::OkStatus();
  stream_->WritesDone();
  const absl::Status status = ToAbsl(stream_->Finish());
  stream_.reset();
  return status;
}

void DraftStream::Cut() {
  if (stream_ == nullptr) return;
  context_.TryCancel();
  stream_->Finish();
  stream_.reset();
}

}  // namespace strata::draft_bench
