#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/steady_clock.h"
#include "services/verify/drafting/draft_stream_call.h"
#include "services/verify/drafting/draft_wire.h"
#include "strata/v1/draft.grpc.pb.h"
#include "tests/bench/replay/draft_driver.h"

namespace strata::replay {
namespace {

constexpr std::chrono::seconds kConnectTimeout(5);
// Far beyond any draft; only so that a service that hangs does not hang the replay.
constexpr absl::Duration kAnswerTimeout = absl::Seconds(30);

absl::Status ToAbsl(const grpc::Status& status, const std::string& address) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      absl::StrCat("the draft service at ", address, ": ", status.error_message()));
}

void FillRequest(const draft::SequenceUpdate& update, v1::SequenceRequest* out) {
  out->set_sequence_id(update.sequence_id);
  out->set_epoch(update.epoch);
  out->set_position(update.position);
  verify::AppendTokens(update.tokens, out->mutable_tokens());
  out->set_prompt_length(update.prompt_length);
  out->set_node_budget(update.node_budget);
  out->set_max_depth(update.max_depth);
  for (const int32_t node : update.accepted_nodes) {
    out->add_accepted_nodes(static_cast<uint32_t>(node));
  }
  out->set_has_feedback(update.has_feedback);
  verify::AppendTokens(update.predicted_tokens, out->mutable_predicted_tokens());
  out->set_close(update.close);
  out->set_tenant(update.tenant);
  out->set_policy(verify::PolicyToProto(update.policy));
  verify::AppendRankings(update.rankings, out->mutable_rankings());
}

class RemoteDriver final : public DraftDriver {
 public:
  RemoteDriver(std::string address, std::unique_ptr<v1::DraftService::Stub> stub,
               const ReplayIdentity& identity)
      : address_(std::move(address)),
        stub_(std::move(stub)),
        identity_(identity),
        streams_(*stub_),
        call_(streams_.Start()) {}

  ~RemoteDriver() override { call_->Cancel(); }

  absl::Status Draft(std::span<const draft::SequenceUpdate> updates,
                     std::vector<draft::SequenceAnswer>& answers, DraftTime& time) override {
    const auto start = std::chrono::steady_clock::now();
    v1::DraftRequest request;
    request.set_step(++step_);
    if (step_ == 1) FillHandshake(request.mutable_handshake());
    for (const draft::SequenceUpdate& update : updates)
      FillRequest(update, request.add_sequences());
    const absl::Time deadline = SteadyNow() + kAnswerTimeout;
    v1::DraftResponse response;
    if (!call_->TrySend(request, deadline) || !call_->Await(deadline, response)) {
      return WhyNoAnswer();
    }
    if (static_cast<size_t>(response.answers_size()) != updates.size()) {
      return absl::InternalError(absl::StrCat("the draft service at ", address_, " answered ",
                                              response.answers_size(), " of ", updates.size(),
                                              " sequences"));
    }
    answers.assign(updates.size(), {});
    for (size_t i = 0; i < updates.size(); ++i) {
      absl::Status status =
          TakeAnswer(updates[i], response.answers(static_cast<int>(i)), answers[i]);
      if (!status.ok()) return status;
    }
    time.total_us =
        std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
    time.service_us = response.service_time_us();
    return absl::OkStatus();
  }

  absl::Status Finish() override { return absl::OkStatus(); }

 private:
  void FillHandshake(v1::Handshake* handshake) const {
    // Two replays at once must not be taken for one verifier.
    handshake->set_verifier_id(absl::StrCat("strata-replay-", getpid()));
    handshake->set_tokenizer_fingerprint(identity_.tokenizer_fingerprint);
    handshake->set_model_id(identity_.model_id);
    handshake->set_vocab_size(static_cast<uint32_t>(identity_.vocab_size));
  }

  absl::Status WhyNoAnswer() const {
    if (!call_->ended()) {
      return absl::DeadlineExceededError(absl::StrCat("the draft service at ", address_,
                                                      " did not answer within ",
                                                      absl::FormatDuration(kAnswerTimeout)));
    }
    const grpc::Status status = call_->status(SteadyNow() + absl::Seconds(1));
    if (!status.ok()) return ToAbsl(status, address_);
    return absl::UnavailableError(
        absl::StrCat("the draft service at ", address_, " ended the stream"));
  }

  absl::Status TakeAnswer(const draft::SequenceUpdate& update, const v1::SequenceAnswer& proto,
                          draft::SequenceAnswer& answer) const {
    answer.sequence_id = proto.sequence_id();
    answer.epoch = proto.epoch();
    answer.status = static_cast<draft::SequenceStatus>(proto.status());
    answer.message = proto.message();
    answer.position = proto.position();
    if (answer.status == draft::SequenceStatus::kOk) {
      auto tree = verify::TreeFromProto(proto.tree(), identity_.vocab_size, update.node_budget);
      if (!tree.ok()) return tree.status();
      answer.tree = *std::move(tree);
    }
    return CheckAnswer(update, answer, identity_.vocab_size);
  }

  const std::string address_;
  const std::unique_ptr<v1::DraftService::Stub> stub_;
  const ReplayIdentity identity_;
  verify::DraftStreams streams_;
  const std::shared_ptr<verify::DraftStreamCall> call_;
  uint64_t step_ = 0;
};

absl::Status CheckSnapshot(v1::DraftService::Stub& stub, const std::string& address,
                           const std::string& snapshot) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kConnectTimeout);
  v1::GetDraftInfoResponse info;
  const grpc::Status status = stub.GetDraftInfo(&context, v1::GetDraftInfoRequest(), &info);
  if (!status.ok()) return ToAbsl(status, address);
  if (info.snapshot() == snapshot) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "the draft service at ", address, " serves ",
      info.snapshot().empty() ? "no corpus" : absl::StrCat("the corpus ", info.snapshot()),
      ", not ", snapshot));
}

}  // namespace

absl::StatusOr<std::unique_ptr<DraftDriver>> NewRemoteDriver(const std::string& address,
                                                             const std::string& snapshot,
                                                             const ReplayIdentity& identity) {
  auto channel = grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
  if (!channel->WaitForConnected(std::chrono::system_clock::now() + kConnectTimeout)) {
    return absl::UnavailableError(absl::StrCat("no draft service answers at ", address));
  }
  auto stub = v1::DraftService::NewStub(channel);
  if (!snapshot.empty()) {
    if (absl::Status status = CheckSnapshot(*stub, address, snapshot); !status.ok()) return status;
  }
  return std::make_unique<RemoteDriver>(address, std::move(stub), identity);
}

}  // namespace strata::replay
