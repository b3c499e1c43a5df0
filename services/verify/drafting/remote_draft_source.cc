#include "services/verify/drafting/remote_draft_source.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "common/base/steady_clock.h"
#include "services/verify/drafting/draft_stream_call.h"
#include "services/verify/drafting/draft_wire.h"
#include "services/verify/drafting/look_ahead.h"
#include "spdlog/spdlog.h"

namespace strata::verify {
namespace {

// Draft.proto's bound on sequences a message.
constexpr size_t kMaxSequences = 1024;
// Closed sequences kept for the next message; over it the oldest are not told of
// (the service evicts them by itself).
constexpr int kMaxPendingCloses = 256;
// How long a sequence is not sent again after the service refused it.
constexpr absl::Duration kRefusedSequencePause = absl::Seconds(1);
// Tokens in one message: a token is five bytes at most, and the service reads messages of 16 MiB.
// What does not fit goes with a later step; a sequence that never fits is drafted for locally.
constexpr size_t kMaxMessageTokens = size_t{5} << 19;
constexpr absl::Duration kComplaintInterval = absl::Seconds(10);
// Nodes drafted ahead for one message, some two milliseconds of the service's time; and for one
// sequence, or it is not worth asking for any.
constexpr uint32_t kMaxAheadNodes = 1024;
constexpr uint32_t kMinAheadNodes = 16;

class RemoteDraftSource final : public DraftSource {
 public:
  RemoteDraftSource(std::shared_ptr<grpc::Channel> channel, const DraftIdentity& identity,
                    const RemoteDraftOptions& options, std::unique_ptr<DraftSource> fallback)
      : connection_(std::make_unique<Connection>(channel)),
        channel_(std::move(channel)),
        identity_(identity),
        options_(options),
        fallback_(fallback != nullptr ? std::move(fallback) : NewNoDraftSource()),
        breaker_(options.breaker),
        refusal_pause_(options.breaker.first_backoff) {
    Channel()->GetState(/*try_to_connect=*/true);
  }

  ~RemoteDraftSource() override {
    if (call_ != nullptr) call_->Cancel();
  }

  const char* mode() const override { return "remote"; }

  bool available() const override {
    return healthy_.load(std::memory_order_relaxed) &&
           Channel()->GetState(/*try_to_connect=*/true) == GRPC_CHANNEL_READY;
  }

  std::optional<RemoteDraftStats> remote_stats() const override {
    RemoteDraftStats stats;
    stats.messages = counters_.messages.value();
    stats.answers = counters_.answers.value();
    stats.deadline_misses = counters_.deadline_misses.value();
    stats.streams = counters_.streams.value();
    stats.streams_broken = counters_.streams_broken.value();
    stats.forgotten = counters_.forgotten.value();
    stats.drafts = counters_.drafts.value();
    stats.drafts_ahead = counters_.drafts_ahead.value();
    stats.breaker_open = counters_.breaker_open.value() != 0;
    stats.round_trip = counters_.round_trip.Snapshot();
    return stats;
  }

  void Ask(std::span<const DraftQuery> queries) override {
    queries_.assign(queries.begin(), queries.end());
    replies_.assign(queries.size(), DraftReply{.tree = {}, .missed = true});
    unanswered_.clear();
    question_ = Question::kNone;
    const absl::Time start = SteadyNow();
    deadline_ = start + options_.deadline;
    CollectAhead();
    LookUpAhead();
    if (queries_.empty() || !breaker_.Allows(start) || !EnsureStream(start)) return;
    for (size_t i = 0; i < queries_.size(); ++i) {
      if (start >= sequences_[queries_[i].sequence_id].not_before) unanswered_.push_back(i);
    }
    SendQuestion();
  }

  void Take(std::vector<DraftReply>& replies) override {
    TakeAnswers();
    for (size_t i = 0; i < queries_.size(); ++i) {
      // The verdict will be on another tree than the last that the service remembers.
      if (replies_[i].missed || replies_[i].ahead) {
        sequences_[queries_[i].sequence_id].offered = false;
      }
    }
    question_ = Question::kNone;
    counters_.breaker_open.Set(breaker_.closed() ? 0 : 1);
    FallBack();
    replies.swap(replies_);
    replies_.clear();
    queries_.clear();
  }

  void Close(uint64_t sequence_id, std::span<const TokenId> tokens) override {
    fallback_->Close(sequence_id, tokens);
    look_ahead_.Forget(sequence_id);
    const auto it = sequences_.find(sequence_id);
    if (it == sequences_.end()) return;
    const Known known = it->second;
    sequences_.erase(it);
    // While a question is open its answer is the one that the stream waits for.
    const bool open = question_ == Question::kSent || question_ == Question::kUnawaited;
    if (call_ == nullptr || (!open && call_->ended()) || !breaker_.closed()) return;
    if (known.stream != stream_ || known.sent == 0 || known.sent > tokens.size()) return;
    if (pending_closes_.size() >= kMaxPendingCloses) pending_closes_.DeleteSubrange(0, 1);
    v1::SequenceRequest* close = pending_closes_.Add();
    close->set_sequence_id(sequence_id);
    close->set_epoch(known.epoch);
    close->set_position(static_cast<uint32_t>(known.sent));
    AppendTokens(tokens.subspan(known.sent), close->mutable_tokens());
    close->set_close(true);
    // Now if the stream is idle, else with the next step.
    if (open) return;
    v1::DraftRequest request;
    Send(request, absl::InfinitePast());
  }

 private:
  struct Connection {
    explicit Connection(const std::shared_ptr<grpc::Channel>& channel)
        : stub(v1::DraftService::NewStub(channel)), streams(*stub) {}
    const std::unique_ptr<v1::DraftService::Stub> stub;
    DraftStreams streams;
  };

  // What the service has been told of a sequence.
  struct Known {
    uint32_t epoch = 1;
    // The stream it was told on; state of an earlier stream is gone.
    uint64_t stream = 0;
    // Tokens sent; 0: it must be sent whole.
    size_t sent = 0;
    // Whether the last reply's tree was the service's own, so that feedback is for it.
    bool offered = false;
    absl::Time not_before = absl::InfinitePast();
  };

  enum class Question {
    // Nothing is, or was, to be asked.
    kNone,
    // The stream did not take it in time.
    kUnsent,
    kSent,
    // Sent, but all drafts are there already.
    kUnawaited,
  };

  // The sequence that an answer is about, as it is now; null if it has ended or was rewound.
  Known* FindKnown(const v1::SequenceAnswer& answer) {
    const auto it = sequences_.find(answer.sequence_id());
    return it != sequences_.end() && it->second.epoch == answer.epoch() ? &it->second : nullptr;
  }

  // Takes what has come since the last question was asked: trees drafted ahead, and what became of
  // sequences whose answers were not waited for.
  void CollectAhead() {
    if (call_ == nullptr) return;
    v1::DraftResponse response;
    if (call_->Await(absl::InfinitePast(), response)) {
      for (const v1::SequenceAnswer& answer : response.answers()) {
        if (Known* known = FindKnown(answer); known != nullptr) TakeStatus(answer, *known);
      }
    }
    if (!call_->TakeAhead(response)) return;
    for (const v1::SequenceAnswer& answer : response.answers()) {
      if (FindKnown(answer) == nullptr) continue;
      absl::StatusOr<DraftTree> tree =
          TreeFromProto(answer.tree(), identity_.vocab_size, options_.ahead_nodes);
      if (!tree.ok()) {
        Complain("draft service sent an invalid tree ahead: {}",
                 std::string(tree.status().message()));
        continue;
      }
      look_ahead_.Keep(answer.sequence_id(), answer.position(), *std::move(tree));
    }
  }

  // Answers what can be answered from trees drafted ahead.
  void LookUpAhead() {
    for (size_t i = 0; i < queries_.size(); ++i) {
      const DraftQuery& query = queries_[i];
      DraftTree tree = look_ahead_.Take(query.sequence_id, query.tokens, query.node_budget);
      if (tree.empty()) continue;
      replies_[i] = {.tree = std::move(tree), .ahead = true};
      counters_.drafts_ahead.Add(1);
    }
    counters_.drafts.Add(queries_.size());
  }

  // Waits for the answers to what Ask asked, if that needs any.
  void TakeAnswers() {
    if (question_ == Question::kNone || question_ == Question::kUnawaited) return;
    bool answered = false;
    // The second round sends again, whole, what the service did not know.
    for (int round = 0; round < 2 && question_ == Question::kSent; ++round) {
      if (!AwaitAnswer()) break;
      answered = true;
      question_ = Question::kNone;
      if (round == 0) SendQuestion();
    }
    if (answered) {
      if (!breaker_.closed()) spdlog::info("draft service answers; drafting resumes");
      breaker_.OnAnswer();
      stream_answered_ = true;
      refusal_pause_ = options_.breaker.first_backoff;
      refusal_logged_ = false;
      healthy_.store(true, std::memory_order_relaxed);
    } else if (call_->ended()) {
      OnStreamEnd(SteadyNow(), /*between_questions=*/false);
    } else {
      OnMiss(SteadyNow());
    }
  }

  // Leaves out what one message has no room for.
  void KeepWhatFits(std::span<const DraftQuery> queries, std::vector<size_t>& indices) {
    size_t kept = 0;
    size_t tokens = 0;
    for (const size_t i : indices) {
      const size_t more = MessageTokens(queries[i]);
      if (kept == kMaxSequences || tokens + more > kMaxMessageTokens) continue;
      tokens += more;
      indices[kept++] = i;
    }
    indices.resize(kept);
  }

  // Tokens and ids that `query` adds to a message.
  size_t MessageTokens(const DraftQuery& query) {
    const Known& known = sequences_[query.sequence_id];
    const size_t rankings = query.rankings.size() * (RowRanking::kMaxTokens + 2);
    const bool whole =
        known.stream != stream_ || known.sent == 0 || known.sent > query.tokens.size();
    if (whole) return query.tokens.size() + query.predicted_tokens.size() + rankings;
    return query.tokens.size() - known.sent + rankings;
  }

  // Sends unanswered_, less what there is no room for. question_ says what became of it.
  void SendQuestion() {
    KeepWhatFits(queries_, unanswered_);
    if (unanswered_.empty()) return;
    question_ = Question::kUnsent;
    sent_at_ = SteadyNow();
    const absl::Duration left = deadline_ - sent_at_;
    if (left <= absl::ZeroDuration()) return;
    v1::DraftRequest request;
    request.set_deadline_us(
        static_cast<uint32_t>(std::clamp<int64_t>(absl::ToInt64Microseconds(left), 1, UINT32_MAX)));
    uint32_t ahead =
        std::min(options_.ahead_nodes, kMaxAheadNodes / static_cast<uint32_t>(unanswered_.size()));
    if (ahead < kMinAheadNodes) ahead = 0;
    bool awaited = false;
    for (const size_t i : unanswered_) {
      v1::SequenceRequest* sequence = request.add_sequences();
      FillRequest(queries_[i], sequence);
      sequence->set_ahead_nodes(ahead);
      if (replies_[i].ahead) {
        sequence->set_node_budget(0);
      } else {
        awaited = true;
      }
    }
    if (!Send(request, deadline_)) return;
    question_ = awaited ? Question::kSent : Question::kUnawaited;
    if (awaited) counters_.messages.Add(1);
    for (const size_t i : unanswered_) {
      Known& known = sequences_[queries_[i].sequence_id];
      known.stream = stream_;
      known.sent = queries_[i].tokens.size();
      known.offered = false;
    }
  }

  // Takes the answer to the question sent. unanswered_ becomes those to send again. False without
  // an answer in time.
  bool AwaitAnswer() {
    v1::DraftResponse response;
    absl::Time arrival;
    if (!call_->Await(deadline_, response, &arrival)) return false;
    counters_.answers.Add(1);
    counters_.round_trip.Observe(absl::ToDoubleSeconds(arrival - sent_at_));
    if (static_cast<size_t>(response.answers_size()) < unanswered_.size()) {
      Complain("draft service answered {} of {} sequences", response.answers_size(),
               unanswered_.size());
      for (const size_t i : unanswered_) sequences_[queries_[i].sequence_id].sent = 0;
      unanswered_.clear();
      return true;
    }
    std::vector<size_t> again;
    for (size_t k = 0; k < unanswered_.size(); ++k) {
      const size_t i = unanswered_[k];
      if (TakeAnswer(queries_[i], response.answers(static_cast<int>(k)), replies_[i])) {
        again.push_back(i);
      }
    }
    unanswered_.swap(again);
    return true;
  }

  void FillRequest(const DraftQuery& query, v1::SequenceRequest* out) {
    Known& known = sequences_[query.sequence_id];
    if (known.stream != stream_) known.sent = 0;
    if (known.sent > query.tokens.size()) {  // rewound
      ++known.epoch;
      known.sent = 0;
    }
    out->set_sequence_id(query.sequence_id);
    out->set_epoch(known.epoch);
    out->set_position(static_cast<uint32_t>(known.sent));
    AppendTokens(query.tokens.subspan(known.sent), out->mutable_tokens());
    out->set_node_budget(query.node_budget);
    out->set_policy(PolicyToProto(query.policy));
    if (query.trace) out->set_traceparent(trace::ToTraceparent(*query.trace));
    AppendRankings(query.rankings, out->mutable_rankings());
    if (known.sent == 0) {
      out->set_prompt_length(query.prompt_length);
      out->set_tenant(query.tenant);
      AppendTokens(query.predicted_tokens, out->mutable_predicted_tokens());
    } else if (query.has_feedback && known.offered) {
      out->set_has_feedback(true);
      for (const int32_t node : query.accepted_nodes) {
        out->add_accepted_nodes(static_cast<uint32_t>(node));
      }
    }
  }

  // Takes what the service says of a sequence; false if it does not hold it.
  bool TakeStatus(const v1::SequenceAnswer& answer, Known& known) {
    if (answer.status() == v1::SEQUENCE_STATUS_OK) return true;
    known.sent = 0;
    if (answer.status() == v1::SEQUENCE_STATUS_UNKNOWN) {
      counters_.forgotten.Add(1);
    } else {
      Complain("draft service refused a sequence: {}", answer.message());
      known.not_before = SteadyNow() + kRefusedSequencePause;
    }
    return false;
  }

  // True if the sequence must be sent again, whole.
  bool TakeAnswer(const DraftQuery& query, const v1::SequenceAnswer& answer, DraftReply& reply) {
    Known& known = sequences_[query.sequence_id];
    if (answer.sequence_id() != query.sequence_id || answer.epoch() != known.epoch) {
      Complain("draft service answered for sequence {} instead of {}", answer.sequence_id(),
               query.sequence_id);
      known.sent = 0;
      return false;
    }
    if (!TakeStatus(answer, known)) {
      return !reply.ahead && answer.status() == v1::SEQUENCE_STATUS_UNKNOWN;
    }
    reply.missed = false;
    if (answer.position() != query.tokens.size()) {
      Complain("draft service drafted for length {} instead of {}", answer.position(),
               query.tokens.size());
      known.sent = 0;
      return false;
    }
    if (reply.ahead) return false;
    absl::StatusOr<DraftTree> tree =
        TreeFromProto(answer.tree(), identity_.vocab_size, query.node_budget);
    if (!tree.ok()) {
      Complain("draft service sent an invalid tree: {}", std::string(tree.status().message()));
      return false;
    }
    known.offered = true;
    look_ahead_.LearnAwaited(*tree);
    reply.tree = *std::move(tree);
    return false;
  }

  // The fallback's trees for what was missed.
  void FallBack() {
    std::vector<DraftQuery> missed;
    std::vector<size_t> indices;
    for (size_t i = 0; i < queries_.size(); ++i) {
      if (!replies_[i].missed) continue;
      missed.push_back(queries_[i]);
      // The verdict may be on a tree of the service's.
      missed.back().has_feedback = false;
      missed.back().accepted_nodes = {};
      indices.push_back(i);
    }
    if (missed.empty()) return;
    std::vector<DraftReply> local;
    fallback_->Ask(missed);
    fallback_->Take(local);
    for (size_t k = 0; k < indices.size(); ++k)
      replies_[indices[k]].tree = std::move(local[k].tree);
  }

  bool EnsureStream(absl::Time now) {
    if (call_ != nullptr && call_->ended()) {
      OnStreamEnd(now, /*between_questions=*/true);
      if (!breaker_.Allows(now)) return false;
    }
    if (call_ == nullptr) {
      RenewChannel();
      call_ = connection_->streams.Start();
      ++stream_;
      counters_.streams.Add(1);
      handshake_due_ = true;
      stream_answered_ = false;
      pending_closes_.Clear();
    }
    return true;
  }

  std::shared_ptr<grpc::Channel> Channel() const ABSL_LOCKS_EXCLUDED(channel_mutex_) {
    absl::MutexLock lock(&channel_mutex_);
    return channel_;
  }

  void RenewChannel() ABSL_LOCKS_EXCLUDED(channel_mutex_) {
    if (options_.renew_channel == nullptr) return;
    std::shared_ptr<grpc::Channel> channel = options_.renew_channel();
    if (channel == Channel()) return;
    // Not to be waited for.
    std::erase_if(retired_, [](const auto& connection) { return connection->streams.idle(); });
    retired_.push_back(std::move(connection_));
    connection_ = std::make_unique<Connection>(channel);
    absl::MutexLock lock(&channel_mutex_);
    channel_.swap(channel);
  }

  // Adds what every message carries.
  bool Send(v1::DraftRequest& request, absl::Time deadline) {
    request.set_step(++step_);
    if (handshake_due_) {
      v1::Handshake* handshake = request.mutable_handshake();
      handshake->set_verifier_id(identity_.verifier_id);
      handshake->set_tokenizer_fingerprint(identity_.tokenizer_fingerprint);
      handshake->set_model_id(identity_.model_id);
      handshake->set_vocab_size(static_cast<uint32_t>(identity_.vocab_size));
    }
    const int closes = std::min(pending_closes_.size(),
                                static_cast<int>(kMaxSequences) - request.sequences_size());
    for (int i = 0; i < closes; ++i) *request.add_sequences() = pending_closes_.Get(i);
    if (!call_->TrySend(request, deadline)) return false;
    handshake_due_ = false;
    if (closes > 0) pending_closes_.DeleteSubrange(0, closes);
    return true;
  }

  void OnMiss(absl::Time now) {
    counters_.deadline_misses.Add(1);
    const bool was_closed = breaker_.closed();
    if (!breaker_.OnMiss(now)) return;
    if (was_closed) {
      spdlog::warn("draft service misses its deadlines of {}; drafting from the context alone",
                   absl::FormatDuration(options_.deadline));
    }
    // A stream that hangs is not waited for: the probe opens another.
    healthy_.store(false, std::memory_order_relaxed);
    call_->Cancel();
    call_.reset();
  }

  void OnStreamEnd(absl::Time now, bool between_questions) {
    counters_.streams_broken.Add(1);
    const grpc::Status status = call_->status(now + options_.deadline);
    call_.reset();
    // A stream that did good work and ended between two questions: its server drains, or wants its
    // connections spread anew (--max-connection-age). No question is lost if the next is opened at
    // once.
    const bool gone =
        status.error_code() == grpc::UNAVAILABLE || status.error_code() == grpc::CANCELLED;
    if (between_questions && gone && stream_answered_ && breaker_.closed()) {
      spdlog::info("draft stream ended (code {}: {}); opening another",
                   static_cast<int>(status.error_code()), status.error_message());
      return;
    }
    healthy_.store(false, std::memory_order_relaxed);
    if (status.error_code() == grpc::FAILED_PRECONDITION) {
      if (!refusal_logged_) {
        spdlog::error("draft service refuses this verifier: {}. Drafting from the context alone",
                      status.error_message());
        refusal_logged_ = true;
      }
      breaker_.OpenUntil(now + refusal_pause_);
      refusal_pause_ = std::min(refusal_pause_ * 2, options_.refused_pause);
      return;
    }
    if (breaker_.closed()) {
      spdlog::warn("draft stream broke (code {}: {}); drafting from the context alone",
                   static_cast<int>(status.error_code()), status.error_message());
    }
    breaker_.OnBroken(now);
  }

  // Warns, but not once a step.
  template <typename... Args>
  void Complain(fmt::format_string<Args...> format, Args&&... args) {
    const absl::Time now = SteadyNow();
    if (now < next_complaint_) return;
    next_complaint_ = now + kComplaintInterval;
    spdlog::warn(format, std::forward<Args>(args)...);
  }

  // Earlier connections, perhaps with streams that gRPC is not done with.
  std::vector<std::unique_ptr<Connection>> retired_;
  std::unique_ptr<Connection> connection_;
  mutable absl::Mutex channel_mutex_;
  // That of connection_. Replaced by the scheduler's thread; available() reads it from others.
  std::shared_ptr<grpc::Channel> channel_ ABSL_GUARDED_BY(channel_mutex_);
  const DraftIdentity identity_;
  const RemoteDraftOptions options_;
  const std::unique_ptr<DraftSource> fallback_;

  // Read by available().
  std::atomic<bool> healthy_ = true;
  struct Counters {
    metrics::Counter messages;
    metrics::Counter answers;
    metrics::Counter deadline_misses;
    metrics::Counter streams;
    metrics::Counter streams_broken;
    metrics::Counter forgotten;
    metrics::Counter drafts;
    metrics::Counter drafts_ahead;
    metrics::Gauge breaker_open;
    metrics::SecondsHistogram round_trip;
  };
  // Read by remote_stats().
  Counters counters_;

  // All below: the scheduler's thread alone.
  CircuitBreaker breaker_;
  std::shared_ptr<DraftStreamCall> call_;
  // Counts the streams opened.
  uint64_t stream_ = 0;
  uint64_t step_ = 0;
  bool handshake_due_ = true;
  // Whether the stream that is open has answered anything.
  bool stream_answered_ = false;
  // After the next refusal.
  absl::Duration refusal_pause_;
  bool refusal_logged_ = false;
  absl::Time next_complaint_ = absl::InfinitePast();
  absl::flat_hash_map<uint64_t, Known> sequences_;
  LookAhead look_ahead_;
  // Of the last Ask, until Take.
  std::vector<DraftQuery> queries_;
  std::vector<DraftReply> replies_;
  absl::Time deadline_;
  Question question_ = Question::kNone;
  absl::Time sent_at_;
  // Indices in queries_ of what was sent and not yet answered, in the message's order.
  std::vector<size_t> unanswered_;
  google::protobuf::RepeatedPtrField<v1::SequenceRequest> pending_closes_;
};

}  // namespace

std::shared_ptr<grpc::Channel> NewDraftChannel(
    const std::string& address, const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  grpc::ChannelArguments arguments;
  // A stream each goes to the next of several addresses, so that verifiers spread over the replicas
  // and a broken stream is opened anew at another one.
  arguments.SetLoadBalancingPolicyName("round_robin");
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  // Servers of common/rpc allow a ping every 5 s.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5'000);
  return grpc::CreateCustomChannel(address, credentials, arguments);
}

std::unique_ptr<DraftSource> NewRemoteDraftSource(std::shared_ptr<grpc::Channel> channel,
                                                  const DraftIdentity& identity,
                                                  const RemoteDraftOptions& options,
                                                  std::unique_ptr<DraftSource> fallback) {
  return std::make_unique<RemoteDraftSource>(std::move(channel), identity, options,
                                             std::move(fallback));
}

}  // namespace strata::verify
