#include "services/draft/server/draft_service.h"

#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/base/steady_clock.h"
#include "common/rpc/status.h"
#include "services/draft/hierarchy/request_checks.h"
#include "services/draft/server/draft_spans.h"
#include "services/draft/server/wire.h"

namespace strata::draft {
namespace {
constexpr size_t kLargeMessageBytes = size_t{1} << 20;

constexpr char kDraftStream[] = "/strata.v1.DraftService/DraftStream";
constexpr char kDraftOnce[] = "/strata.v1.DraftService/DraftOnce";
constexpr char kGetDraftInfo[] = "/strata.v1.DraftService/GetDraftInfo";

// Bound of DraftRequest.sequences.
constexpr int kMaxSequences = 1024;

absl::Time DeadlineOf(uint32_t deadline_us, absl::Time received) {
  if (deadline_us == 0) return absl::InfiniteFuture();
  return received + absl::Microseconds(deadline_us);
}

// The call's own.
absl::Time DeadlineOf(const grpc::ServerContext& context) {
  // gRPC tells it by the machine's clock.
  return SteadyNow() + (absl::FromChrono(context.deadline()) - absl::Now());
}

// One session of the drafter, closed with the object.
class OpenSession {
 public:
  explicit OpenSession(Drafter* drafter) : drafter_(drafter) {}
  ~OpenSession() {
    if (open_) drafter_->CloseSession(id_);
  }
  OpenSession(const OpenSession&) = delete;
  OpenSession& operator=(const OpenSession&) = delete;

  // Checks the message's handshake: opens the session with the first, compares later ones.
  absl::Status Handshake(const v1::DraftRequest& request) {
    if (open_) {
      if (!request.has_handshake() ||
          google::protobuf::util::MessageDifferencer::Equals(request.handshake(), handshake_)) {
        return absl::OkStatus();
      }
      return absl::InvalidArgumentError(
          "the handshake differs from that of the stream's first message; open a new stream");
    }
    if (!request.has_handshake()) {
      return absl::InvalidArgumentError("the first message of a stream must have a handshake");
    }
    handshake_ = request.handshake();
    absl::Status status =
        drafter_->OpenSession(handshake_.verifier_id(), handshake_.model_id(),
                              handshake_.tokenizer_fingerprint(), handshake_.vocab_size(), &id_);
    open_ = status.ok();
    return status;
  }

  uint64_t id() const { return id_; }

 private:
  Drafter* const drafter_;
  v1::Handshake handshake_;
  bool open_ = false;
  uint64_t id_ = 0;
};

absl::Status CheckBatch(const v1::DraftRequest& request) {
  if (request.sequences_size() <= kMaxSequences) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("the batch has ", request.sequences_size(),
                                                 " sequences, at most ", kMaxSequences,
                                                 " are allowed"));
}

}  // namespace

DraftService::DraftService(Drafter* drafter, std::string tokenizer_fingerprint, std::string version,
                           trace::Tracer* tracer)
    : drafter_(drafter),
      tokenizer_fingerprint_(std::move(tokenizer_fingerprint)),
      version_(std::move(version)),
      tracer_(tracer) {
  AddStreaming(kDraftStream, this, &DraftService::ServeStream);
  AddUnary(kDraftOnce, this, &DraftService::DraftOnce);
  AddUnary(kGetDraftInfo, this, &DraftService::GetDraftInfo);
}

grpc::Status DraftService::ServeStream(
    grpc::ServerContext* context,
    grpc::ServerReaderWriter<v1::DraftResponse, grpc::ByteBuffer>* stream) {
  counters_.streams.Add(1);
  counters_.open_streams.Add(1);
  const absl::Cleanup closed = [this] { counters_.open_streams.Add(-1); };
  grpc::Status status = AnswerMessages(context, stream);
  // What a drain ends is no fault of the verifier's.
  if (!status.ok() && status.error_code() != grpc::UNAVAILABLE) counters_.refused_streams.Add(1);
  return status;
}

grpc::Status DraftService::AnswerMessages(
    grpc::ServerContext* context,
    grpc::ServerReaderWriter<v1::DraftResponse, grpc::ByteBuffer>* stream) {
  StreamRegistry::Stream registered(&streams_, context);
  OpenSession session(drafter_);
  grpc::ByteBuffer bytes;
  v1::DraftRequest request;
  v1::DraftResponse response;
  std::vector<SequenceUpdate> updates;
  std::vector<SequenceAnswer> answers;
  std::vector<RowRanking> rankings;
  while (stream->Read(&bytes)) {
    const absl::Time received = SteadyNow();
    const bool large = bytes.Length() > kLargeMessageBytes;
    if (grpc::Status parsed = rpc::ParseRequest(bytes, request); !parsed.ok()) return parsed;
    bytes.Clear();
    // A message that came in before the drain is answered all the same.
    registered.SetBusy(true);
    absl::Status status = session.Handshake(request);
    status.Update(CheckBatch(request));
    if (!status.ok()) return rpc::ToGrpcStatus(status);

    updates.clear();
    rankings.clear();
    std::vector<size_t> ranking_ends;
    for (const v1::SequenceRequest& sequence : request.sequences()) {
      updates.push_back(UpdateOf(sequence));
      RankingsOf(sequence, rankings);
      ranking_ends.push_back(rankings.size());
    }
    for (size_t i = 0; i < updates.size(); ++i) {
      const size_t begin = i == 0 ? 0 : ranking_ends[i - 1];
      updates[i].rankings = std::span(rankings).subspan(begin, ranking_ends[i] - begin);
    }
    drafter_->Draft(session.id(), updates, DeadlineOf(request.deadline_us(), received), answers);
    if (tracer_ != nullptr) RecordDraftSpans(*tracer_, request, answers, received);

    response.Clear();
    response.set_step(request.step());
    for (const SequenceAnswer& answer : answers) ToProto(answer, *response.add_answers());
    const absl::Duration elapsed = SteadyNow() - received;
    counters_.messages.Add(1);
    counters_.service_seconds.Observe(absl::ToDoubleSeconds(elapsed));
    response.set_service_time_us(static_cast<uint32_t>(
        std::clamp<int64_t>(absl::ToInt64Microseconds(elapsed), 0, UINT32_MAX)));
    if (!stream->Write(response)) break;
    // The verifier has its drafts, and what it computes with them takes longer than this.
    const absl::Time answered = SteadyNow();
    drafter_->Learn(session.id());
    const absl::Time learned = SteadyNow();
    counters_.learn_seconds.Observe(absl::ToDoubleSeconds(learned - answered));
    if (DraftAhead(request, session.id(), updates, learned, answers, response) &&
        !stream->Write(response)) {
      break;
    }
    if (large) {
      // A message's memory is kept for the next one; a large one's would be for the stream's life.
      request = v1::DraftRequest();
      updates = {};
      rankings = {};
    }
    if (!registered.SetBusy(false)) {
      return grpc::Status(grpc::UNAVAILABLE, "the draft service shuts down");
    }
  }
  // Read fails at the client's half-close, but also when the stream broke; the status then reaches
  // nobody, or gRPC has sent its own.
  return grpc::Status::OK;
}

bool DraftService::DraftAhead(const v1::DraftRequest& request, uint64_t session,
                              std::span<const SequenceUpdate> updates, absl::Time start,
                              std::vector<SequenceAnswer>& answers, v1::DraftResponse& response) {
  const auto asks = [](const SequenceUpdate& update) { return update.ahead_nodes > 0; };
  if (std::none_of(updates.begin(), updates.end(), asks)) return false;
  drafter_->DraftAhead(session, updates, DeadlineOf(request.deadline_us(), start), answers);
  response.Clear();
  response.set_step(request.step());
  response.set_ahead(true);
  for (const SequenceAnswer& answer : answers) ToProto(answer, *response.add_answers());
  counters_.ahead_seconds.Observe(absl::ToDoubleSeconds(SteadyNow() - start));
  return true;
}

grpc::Status DraftService::DraftOnce(grpc::ServerContext* context,
                                     const v1::DraftOnceRequest* request,
                                     v1::DraftOnceResponse* response) {
  const absl::Time deadline =
      std::min(DeadlineOf(request->deadline_us(), SteadyNow()), DeadlineOf(*context));
  if (!request->has_handshake()) {
    return grpc::Status(grpc::INVALID_ARGUMENT, "the request must have a handshake");
  }
  const v1::Handshake& handshake = request->handshake();
  if (absl::Status status = CheckVerifierId(handshake.verifier_id()); !status.ok()) {
    return rpc::ToGrpcStatus(status);
  }
  DraftTree tree;
  const absl::Status status =
      drafter_->DraftOnce({.model_id = handshake.model_id(),
                           .tokenizer_fingerprint = handshake.tokenizer_fingerprint(),
                           .vocab_size = handshake.vocab_size(),
                           .tenant = request->tenant(),
                           .context = TokensOf(request->tokens()),
                           .predicted_tokens = TokensOf(request->predicted_tokens()),
                           .node_budget = request->node_budget(),
                           .max_depth = request->max_depth(),
                           .policy = PolicyOf(request->policy()),
                           .deadline = deadline},
                          tree);
  if (!status.ok()) return rpc::ToGrpcStatus(status);
  ToProto(tree, *response->mutable_tree());
  return grpc::Status::OK;
}

grpc::Status DraftService::GetDraftInfo(grpc::ServerContext* context,
                                        const v1::GetDraftInfoRequest* request,
                                        v1::GetDraftInfoResponse* response) {
  const DrafterStats stats = drafter_->Stats();
  response->set_tokenizer_fingerprint(tokenizer_fingerprint_);
  response->set_snapshot(stats.snapshot);
  response->set_corpus_tokens(stats.corpus_tokens);
  response->set_live_sequences(stats.live_sequences);
  response->set_model_tier_bytes(stats.model_tier_bytes);
  response->set_version(version_);
  return grpc::Status::OK;
}

}  // namespace strata::draft
