#include "services/verify/drafting/remote_draft_source.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cmath>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/rpc/server.h"
#include "strata/v1/draft.grpc.pb.h"

namespace strata::verify {
namespace {

constexpr TokenId kAnswer = 7;

// Answers every request with the one token kAnswer, unless told to misbehave.
class FakeService final : public v1::DraftService::Service {
 public:
  enum Mode {
    kGood,
    kSilent,
    kInvalid,
    kRefuse,
    kForget,
    kLeave,
    kNewTier,
    kNewStatus,
    // kGood, and ahead: 3, then twice kAnswer; or a tree that is none.
    kAhead,
    kInvalidAhead
  };
  std::atomic<Mode> mode = kGood;
  std::atomic<int> whole = 0;
  std::atomic<int> streams = 0;
  std::atomic<int> closes = 0;
  // Messages sent ahead.
  std::atomic<int> aheads = 0;
  // Of the sequence asked for last.
  std::string traceparent() const {
    absl::MutexLock lock(&mutex_);
    return traceparent_;
  }
  // The last message.
  v1::DraftRequest last() const {
    absl::MutexLock lock(&mutex_);
    return last_;
  }

  grpc::Status DraftStream(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<v1::DraftResponse, v1::DraftRequest>* stream) override {
    ++streams;
    v1::DraftRequest request;
    while (stream->Read(&request)) {
      // One for the whole answer: the test may set the next as soon as it has that.
      const Mode now = mode;
      {
        absl::MutexLock lock(&mutex_);
        last_ = request;
      }
      if (now == kRefuse) return {grpc::FAILED_PRECONDITION, "foreign tokenizer"};
      if (now == kSilent) continue;
      v1::DraftResponse response;
      response.set_step(request.step());
      for (const v1::SequenceRequest& sequence : request.sequences()) {
        if (sequence.position() == 0) ++whole;
        if (sequence.close()) ++closes;
        absl::MutexLock lock(&mutex_);
        traceparent_ = sequence.traceparent();
        v1::SequenceAnswer* answer = response.add_answers();
        answer->set_sequence_id(sequence.sequence_id());
        answer->set_epoch(sequence.epoch());
        answer->set_status(now == kForget && sequence.position() > 0 ? v1::SEQUENCE_STATUS_UNKNOWN
                                                                     : v1::SEQUENCE_STATUS_OK);
        if (now == kNewStatus) answer->set_status(static_cast<v1::SequenceStatus>(77));
        answer->set_position(sequence.position() + sequence.tokens_size());
        if (sequence.node_budget() == 0) continue;
        v1::DraftTree* tree = answer->mutable_tree();
        tree->add_tokens(now == kInvalid ? 1u << 31 : kAnswer);
        tree->add_parents(-1);
        tree->add_confidences(0.5f);
        tree->add_tiers(now == kNewTier ? static_cast<v1::Tier>(99) : v1::TIER_MODEL);
      }
      if (!stream->Write(response)) break;
      if (now == kLeave) return {grpc::UNAVAILABLE, "draining"};
      if (now < kAhead || !stream->Write(Ahead(request, now))) continue;
      ++aheads;
    }
    return grpc::Status::OK;
  }

 private:
  static v1::DraftResponse Ahead(const v1::DraftRequest& request, Mode mode) {
    v1::DraftResponse response;
    response.set_step(request.step());
    response.set_ahead(true);
    for (const v1::SequenceRequest& sequence : request.sequences()) {
      if (sequence.ahead_nodes() == 0) continue;
      v1::SequenceAnswer* answer = response.add_answers();
      answer->set_sequence_id(sequence.sequence_id());
      answer->set_epoch(sequence.epoch());
      answer->set_status(v1::SEQUENCE_STATUS_OK);
      answer->set_position(sequence.position() + sequence.tokens_size());
      v1::DraftTree* tree = answer->mutable_tree();
      for (int i = 0; i < 3; ++i) {
        tree->add_tokens(i == 0 ? 3 : kAnswer);
        tree->add_parents(mode == kInvalidAhead ? 2 : i - 1);
        tree->add_confidences(0.9f);
        tree->add_tiers(v1::TIER_MODEL);
      }
    }
    return response;
  }

  mutable absl::Mutex mutex_;
  std::string traceparent_ ABSL_GUARDED_BY(mutex_);
  v1::DraftRequest last_ ABSL_GUARDED_BY(mutex_);
};

class RemoteDraft : public testing::Test {
 protected:
  void Start(const std::string& listen, rpc::ServerOptions options = {}) {
    options.listen = listen;
    const std::array<grpc::Service*, 1> services = {&service_};
    auto server = rpc::Server::Start(options, services);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    address_ = server_->address();
  }
  void SetUp() override {
    Start("127.0.0.1:0");
    RemoteDraftOptions options;
    options.deadline = absl::Milliseconds(250);
    options.breaker.max_misses = 2;
    options.breaker.cool_down = absl::Milliseconds(300);
    Connect(options);
  }
  // A source of its own instead of the one there was.
  void Connect(const RemoteDraftOptions& options) {
    source_ = NewRemoteDraftSource(NewDraftChannel(address_, grpc::InsecureChannelCredentials()),
                                   {"verifier", "model", "f", 100}, options, nullptr);
  }
  // Borrows the tokens.
  static DraftQuery Query(uint64_t sequence_id, const std::vector<TokenId>& tokens) {
    DraftQuery query;
    query.sequence_id = sequence_id;
    query.tokens = tokens;
    query.prompt_length = 1;
    query.node_budget = 4;
    return query;
  }
  DraftReply Ask(std::optional<trace::Context> trace = std::nullopt) {
    tokens_.push_back(3);
    DraftQuery query = Query(1, tokens_);
    query.trace = trace;
    std::vector<DraftReply> replies;
    source_->Ask({&query, 1});
    source_->Take(replies);
    return replies.at(0);
  }
  // Asks until a draft was there ahead.
  DraftReply AskAhead() {
    DraftReply reply;
    for (const absl::Time end = absl::Now() + absl::Seconds(10); absl::Now() < end;) {
      reply = Ask();
      if (reply.ahead) break;
      absl::SleepFor(absl::Milliseconds(20));
    }
    EXPECT_TRUE(reply.ahead);
    return reply;
  }
  bool ResumesWithin(absl::Duration limit) {
    for (const absl::Time end = absl::Now() + limit; absl::Now() < end;) {
      if (const DraftReply reply = Ask(); reply.tree.size() == 1 && !reply.missed) return true;
      absl::SleepFor(absl::Milliseconds(20));
    }
    return false;
  }

  FakeService service_;
  std::unique_ptr<rpc::Server> server_;
  std::string address_;
  std::unique_ptr<DraftSource> source_;
  std::vector<TokenId> tokens_;
};

TEST_F(RemoteDraft, SendsOnlyWhatIsNew) {
  ASSERT_TRUE(ResumesWithin(absl::Seconds(10)));
  service_.whole = 0;
  for (int i = 0; i < 5; ++i) EXPECT_EQ(Ask().tree.tokens, std::vector<TokenId>{kAnswer});
  EXPECT_EQ(service_.whole, 0);
  EXPECT_TRUE(source_->available());
}

TEST_F(RemoteDraft, TellsTheSpanThatWaits) {
  ASSERT_TRUE(ResumesWithin(absl::Seconds(10)));
  EXPECT_EQ(service_.traceparent(), "");
  const trace::Context context = {trace::NewTraceId(), trace::NewSpanId(), /*sampled=*/true};
  EXPECT_FALSE(Ask(context).missed);
  EXPECT_EQ(service_.traceparent(), trace::ToTraceparent(context));
  EXPECT_FALSE(Ask().missed);
  EXPECT_EQ(service_.traceparent(), "");
}

TEST_F(RemoteDraft, SendsAgainWhatWasForgotten) {
  ASSERT_TRUE(ResumesWithin(absl::Seconds(10)));
  service_.mode = FakeService::kForget;
  service_.whole = 0;
  EXPECT_EQ(Ask().tree.size(), 1);
  EXPECT_EQ(service_.whole, 1);
}

TEST_F(RemoteDraft, ADraftMadeAheadIsNotWaitedFor) {
  RemoteDraftOptions options;
  options.deadline = absl::Seconds(10);
  Connect(options);
  service_.mode = FakeService::kAhead;
  ASSERT_TRUE(ResumesWithin(absl::Seconds(10)));
  EXPECT_EQ(AskAhead().tree.tokens, (std::vector<TokenId>{kAnswer, kAnswer}));
  // What is drafted ahead with this message answers the question after it, to which the service
  // itself says nothing.
  absl::SleepFor(absl::Milliseconds(200));
  const RemoteDraftStats before = source_->remote_stats().value();
  service_.mode = FakeService::kSilent;
  const absl::Time start = absl::Now();
  const DraftReply reply = Ask();
  EXPECT_LT(absl::Now() - start, absl::Seconds(5));
  EXPECT_TRUE(reply.ahead);
  EXPECT_FALSE(reply.missed);
  EXPECT_EQ(reply.tree.tokens, (std::vector<TokenId>{kAnswer, kAnswer}));
  const RemoteDraftStats after = source_->remote_stats().value();
  EXPECT_EQ(after.drafts, before.drafts + 1);
  EXPECT_EQ(after.drafts_ahead, before.drafts_ahead + 1);
  EXPECT_EQ(after.messages, before.messages);
  EXPECT_EQ(after.deadline_misses, 0u);
}

// The service is told the tokens all the same, asked for no other draft, and not told of a verdict
// on a tree that it does not know.
TEST_F(RemoteDraft, TheServiceLearnsOfTokensThatWereDraftedAhead) {
  service_.mode = FakeService::kAhead;
  ASSERT_TRUE(ResumesWithin(absl::Seconds(10)));
  AskAhead();
  for (const absl::Time end = absl::Now() + absl::Seconds(10); absl::Now() < end;) {
    if (service_.last().sequences_size() == 1 && service_.last().sequences(0).node_budget() == 0) {
      break;
    }
    absl::SleepFor(absl::Milliseconds(1));
  }
  const v1::DraftRequest told = service_.last();
  ASSERT_EQ(told.sequences_size(), 1);
  EXPECT_EQ(told.sequences(0).node_budget(), 0u);
  EXPECT_EQ(told.sequences(0).ahead_nodes(), 64u);
  EXPECT_EQ(told.sequences(0).position(), tokens_.size() - 1);
  EXPECT_EQ(told.sequences(0).tokens_size(), 1);

  // This token no tree leads to.
  tokens_.push_back(50);
  const std::array<int32_t, 1> accepted = {0};
  DraftQuery query = Query(1, tokens_);
  query.has_feedback = true;
  query.accepted_nodes = accepted;
  std::vector<DraftReply> replies;
  source_->Ask({&query, 1});
  source_->Take(replies);
  EXPECT_FALSE(replies.at(0).ahead);
  EXPECT_FALSE(replies.at(0).missed);
  EXPECT_EQ(replies.at(0).tree.tokens, std::vector<TokenId>{kAnswer});
  EXPECT_FALSE(service_.last().sequences(0).has_feedback());
  // Of that one it does know.
  tokens_.push_back(50);
  query.tokens = tokens_;
  source_->Ask({&query, 1});
  source_->Take(replies);
  EXPECT_FALSE(replies.at(0).missed);
  EXPECT_TRUE(service_.last().sequences(0).has_feedback());
}

TEST_F(RemoteDraft, SequencesWithoutADraftAheadAreWaitedForBesideOthers) {
  service_.mode = FakeService::kAhead;
  ASSERT_TRUE(ResumesWithin(absl::Seconds(10)));
  bool both = false;
  for (int i = 0; i < 500 && !both; ++i) {
    tokens_.push_back(3);
    std::vector<TokenId> others(static_cast<size_t>(i) + 1, 60);
    const std::array<DraftQuery, 2> queries = {Query(21, others), Query(20, tokens_)};
    std::vector<DraftReply> replies;
    source_->Ask(queries);
    source_->Take(replies);
    ASSERT_EQ(replies.size(), 2u);
    EXPECT_FALSE(replies[0].ahead);
    EXPECT_EQ(replies[0].tree.tokens, std::vector<TokenId>{kAnswer});
    both = replies[1].ahead;
    if (both) {
      EXPECT_EQ(replies[1].tree.tokens, (std::vector<TokenId>{kAnswer, kAnswer}));
    }
    absl::SleepFor(absl::Milliseconds(20));
  }
  EXPECT_TRUE(both);
}

// Nobody waits for the answer that says so.
TEST_F(RemoteDraft, WhatWasForgottenMeanwhileIsSentAgain) {
  service_.mode = FakeService::kAhead;
  ASSERT_TRUE(ResumesWithin(absl::Seconds(10)));
  AskAhead();
  absl::SleepFor(absl::Milliseconds(200));
  service_.mode = FakeService::kForget;
  service_.whole = 0;
  ASSERT_TRUE(Ask().ahead);
  absl::SleepFor(absl::Milliseconds(200));
  const DraftReply reply = Ask();
  EXPECT_FALSE(reply.ahead);
  EXPECT_FALSE(reply.missed);
  EXPECT_EQ(reply.tree.tokens, std::vector<TokenId>{kAnswer});
  EXPECT_EQ(service_.whole, 1);
}

TEST_F(RemoteDraft, AnInvalidTreeAheadIsNone) {
  service_.mode = FakeService::kInvalidAhead;
  ASSERT_TRUE(ResumesWithin(absl::Seconds(10)));
  for (int i = 0; i < 5; ++i) {
    absl::SleepFor(absl::Milliseconds(50));
    const DraftReply reply = Ask();
    EXPECT_FALSE(reply.ahead);
    EXPECT_EQ(reply.tree.tokens, std::vector<TokenId>{kAnswer});
  }
  EXPECT_GE(service_.aheads, 5);
}

TEST_F(RemoteDraft, NothingIsDraftedAheadUnasked) {
  RemoteDraftOptions options;
  options.ahead_nodes = 0;
  Connect(options);
  service_.mode = FakeService::kAhead;
  ASSERT_TRUE(ResumesWithin(absl::Seconds(10)));
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(Ask().ahead);
  EXPECT_EQ(service_.last().sequences(0).ahead_nodes(), 0u);
}

// The stream waits for one answer at a time.
TEST_F(RemoteDraft, ACloseInBetweenGoesWithTheNextQuestion) {
  ASSERT_TRUE(ResumesWithin(absl::Seconds(10)));
  const std::array<DraftQuery, 2> queries = {Query(10, tokens_), Query(11, tokens_)};
  std::vector<DraftReply> replies;
  source_->Ask(queries);
  source_->Take(replies);
  ASSERT_EQ(replies.size(), 2u);
  source_->Ask({queries.data(), 1});
  source_->Close(11, tokens_);
  source_->Take(replies);
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_FALSE(replies[0].missed);
  EXPECT_EQ(service_.closes, 0);
  source_->Ask({queries.data(), 1});
  source_->Take(replies);
  EXPECT_FALSE(replies[0].missed);
  EXPECT_EQ(service_.closes, 1);
  EXPECT_EQ(source_->remote_stats()->streams, 1u);
}

// gRPC is done with a stream some time after it was cancelled, on a thread of the channel.
TEST_F(RemoteDraft, EndsCleanlyWithAStreamOpen) {
  for (int i = 0; i < 50; ++i) {
    Connect({});
    tokens_.clear();
    // Some are connected by then, and some are asked.
    if (i % 2 == 0) {
      ASSERT_TRUE(ResumesWithin(absl::Seconds(10)));
    }
    if (i % 4 == 1) Ask();
  }
}

TEST_F(RemoteDraft, ASilentServiceOpensTheBreaker) {
  // Long times: a machine that stands still for a moment must not look like a wait.
  RemoteDraftOptions options;
  options.deadline = absl::Seconds(1);
  options.breaker.max_misses = 2;
  options.breaker.cool_down = absl::Seconds(2);
  Connect(options);
  ASSERT_TRUE(ResumesWithin(absl::Seconds(10)));
  service_.mode = FakeService::kSilent;
  EXPECT_TRUE(Ask().missed);
  EXPECT_TRUE(Ask().missed);
  EXPECT_FALSE(source_->available());
  const absl::Time start = absl::Now();
  EXPECT_TRUE(Ask().missed);
  EXPECT_LT(absl::Now() - start, absl::Milliseconds(800));  // less than the deadline
  service_.mode = FakeService::kGood;
  EXPECT_TRUE(ResumesWithin(absl::Seconds(10)));
}

TEST_F(RemoteDraft, WhatTheServiceDidIsCounted) {
  RemoteDraftOptions options;
  options.deadline = absl::Seconds(2);
  options.breaker.max_misses = 2;
  Connect(options);
  ASSERT_TRUE(ResumesWithin(absl::Seconds(10)));
  const auto stats = [this] { return source_->remote_stats().value(); };
  const auto observed = [](const RemoteDraftStats& stats) {
    return std::accumulate(stats.round_trip.counts.begin(), stats.round_trip.counts.end(),
                           uint64_t{0});
  };
  const RemoteDraftStats first = stats();
  EXPECT_EQ(observed(first), first.answers);
  EXPECT_FALSE(first.breaker_open);
  for (int i = 0; i < 5; ++i) Ask();
  RemoteDraftStats now = stats();
  EXPECT_EQ(now.messages, first.messages + 5);
  EXPECT_EQ(now.answers, first.answers + 5);
  EXPECT_EQ(observed(now), now.answers);
  EXPECT_EQ(now.forgotten, first.forgotten);

  service_.mode = FakeService::kForget;
  Ask();
  now = stats();
  EXPECT_EQ(now.forgotten, first.forgotten + 1);
  EXPECT_EQ(now.messages, first.messages + 7);

  service_.mode = FakeService::kSilent;
  Ask();
  EXPECT_EQ(stats().deadline_misses, first.deadline_misses + 1);
  EXPECT_FALSE(stats().breaker_open);
  Ask();
  // The breaker is open now: nothing is sent.
  Ask();
  now = stats();
  EXPECT_TRUE(now.breaker_open);
  EXPECT_EQ(now.deadline_misses, first.deadline_misses + 2);
  EXPECT_EQ(now.messages, first.messages + 9);
  EXPECT_EQ(now.answers, first.answers + 7);
  EXPECT_EQ(now.streams_broken, first.streams_broken);

  service_.mode = FakeService::kGood;
  ASSERT_TRUE(ResumesWithin(absl::Seconds(10)));
  now = stats();
  EXPECT_FALSE(now.breaker_open);
  EXPECT_EQ(now.streams, first.streams + 1);
  server_.reset();
  Ask();
  // The stream that was open; and, if its end was noticed before the question went out, the one
  // that was tried in its place at once.
  EXPECT_GE(stats().streams_broken, first.streams_broken + 1);
  EXPECT_LE(stats().streams_broken, first.streams_broken + 2);
  EXPECT_TRUE(stats().breaker_open);
  EXPECT_FALSE(NewNoDraftSource()->remote_stats().has_value());
}

TEST_F(RemoteDraft, ARestartedServiceIsFoundAgain) {
  ASSERT_TRUE(ResumesWithin(absl::Seconds(10)));
  server_.reset();
  EXPECT_TRUE(Ask().tree.empty());
  EXPECT_TRUE(Ask().missed);
  Start(address_);
  EXPECT_TRUE(ResumesWithin(absl::Seconds(10)));
}

TEST_F(RemoteDraft, AStreamThatEndsBetweenQuestionsCostsNone) {
  // The end may be noticed late, so that the next question still goes to the old stream: not
  // always.
  for (int trial = 0; trial < 20; ++trial) {
    ASSERT_TRUE(ResumesWithin(absl::Seconds(10)));
    const uint64_t streams = source_->remote_stats()->streams;
    service_.mode = FakeService::kLeave;
    Ask();
    service_.mode = FakeService::kGood;
    absl::SleepFor(absl::Milliseconds(100));
    const DraftReply reply = Ask();
    if (reply.missed) continue;
    EXPECT_EQ(reply.tree.tokens, std::vector<TokenId>{kAnswer});
    EXPECT_EQ(source_->remote_stats()->streams, streams + 1);
    EXPECT_FALSE(source_->remote_stats()->breaker_open);
    return;
  }
  FAIL() << "every end of a stream cost a question";
}

TEST_F(RemoteDraft, DraftingGoesOnWhereConnectionsHaveAnAge) {
  source_.reset();
  server_.reset();
  rpc::ServerOptions aging;
  aging.max_connection_age = absl::Milliseconds(200);
  aging.connection_age_grace = absl::Milliseconds(20);
  Start("127.0.0.1:0", aging);
  RemoteDraftOptions options;
  options.deadline = absl::Seconds(2);
  Connect(options);
  ASSERT_TRUE(ResumesWithin(absl::Seconds(10)));
  const absl::Time end = absl::Now() + absl::Seconds(20);
  while (source_->remote_stats()->streams < 5 && absl::Now() < end) {
    Ask();
    absl::SleepFor(absl::Milliseconds(5));
  }
  EXPECT_GE(source_->remote_stats()->streams, 5u);
  EXPECT_EQ(source_->remote_stats()->deadline_misses, 0u);
  EXPECT_TRUE(ResumesWithin(absl::Seconds(10)));
}

TEST_F(RemoteDraft, InvalidTreesAreEmpty) {
  ASSERT_TRUE(ResumesWithin(absl::Seconds(10)));
  service_.mode = FakeService::kInvalid;
  const DraftReply reply = Ask();
  EXPECT_TRUE(reply.tree.empty());
  // It answered: neither the breaker nor the fallback has a part in this.
  EXPECT_FALSE(reply.missed);
  service_.mode = FakeService::kGood;
  EXPECT_EQ(Ask().tree.size(), 1);
}

// Of a draft service of another version: a tier that is not known here drafts like any other, a
// status that is not known is no draft.
TEST_F(RemoteDraft, NumbersThatAreNotKnownHereDoNoHarm) {
  ASSERT_TRUE(ResumesWithin(absl::Seconds(10)));
  service_.mode = FakeService::kNewTier;
  DraftReply reply = Ask();
  EXPECT_EQ(reply.tree.tokens, std::vector<TokenId>{kAnswer});
  EXPECT_EQ(reply.tree.tiers, std::vector<TierKind>{TierKind::kUnspecified});
  service_.mode = FakeService::kNewStatus;
  reply = Ask();
  EXPECT_TRUE(reply.tree.empty());
  EXPECT_TRUE(source_->available());
  service_.mode = FakeService::kGood;
  EXPECT_TRUE(ResumesWithin(absl::Seconds(10)));
}

// Answers with one token of its own; keeps what it was asked.
class LocalSource final : public DraftSource {
 public:
  static constexpr TokenId kToken = 9;
  struct Asked {
    uint64_t sequence_id = 0;
    bool has_feedback = false;
  };
  LocalSource(std::vector<Asked>& asked, std::vector<uint64_t>& closed)
      : asked_(asked), closed_(closed) {}
  const char* mode() const override { return "local"; }
  bool available() const override { return true; }
  void Ask(std::span<const DraftQuery> queries) override {
    for (const DraftQuery& query : queries) {
      asked_.push_back({query.sequence_id, query.has_feedback});
    }
    drafts_ = queries.size();
  }
  void Take(std::vector<DraftReply>& replies) override {
    replies.assign(drafts_, DraftReply());
    for (DraftReply& reply : replies) reply.tree.Add(kToken, -1, 0.5f, TierKind::kContext);
  }
  void Close(uint64_t sequence_id, std::span<const TokenId>) override {
    closed_.push_back(sequence_id);
  }

 private:
  size_t drafts_ = 0;
  std::vector<Asked>& asked_;
  std::vector<uint64_t>& closed_;
};

TEST_F(RemoteDraft, TheFallbackAnswersWhatIsMissedAndNothingElse) {
  std::vector<LocalSource::Asked> asked;
  std::vector<uint64_t> closed;
  RemoteDraftOptions options;
  options.deadline = absl::Milliseconds(250);
  options.breaker.max_misses = 2;
  source_ = NewRemoteDraftSource(NewDraftChannel(address_, grpc::InsecureChannelCredentials()),
                                 {"verifier", "model", "f", 100}, options,
                                 std::make_unique<LocalSource>(asked, closed));
  ASSERT_TRUE(ResumesWithin(absl::Seconds(10)));
  asked.clear();
  EXPECT_EQ(Ask().tree.tokens, std::vector<TokenId>{kAnswer});
  EXPECT_TRUE(asked.empty());

  service_.mode = FakeService::kSilent;
  // The verdict on the last tree is one on the service's own.
  tokens_.push_back(kAnswer);
  DraftQuery query = Query(1, tokens_);
  query.has_feedback = true;
  const std::vector<int32_t> accepted = {0};
  query.accepted_nodes = accepted;
  std::vector<DraftReply> replies;
  source_->Ask({&query, 1});
  source_->Take(replies);
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_TRUE(replies[0].missed);
  EXPECT_EQ(replies[0].tree.tokens, std::vector<TokenId>{LocalSource::kToken});
  ASSERT_EQ(asked.size(), 1u);
  EXPECT_EQ(asked[0].sequence_id, 1u);
  EXPECT_FALSE(asked[0].has_feedback);
  source_->Close(1, tokens_);
  EXPECT_EQ(closed, std::vector<uint64_t>{1});
}

// 20 sequences of a million tokens are more than the service reads at once.
TEST_F(RemoteDraft, LongSequencesGoInSeveralMessages) {
  RemoteDraftOptions options;
  options.deadline = absl::Seconds(20);
  Connect(options);
  ASSERT_TRUE(ResumesWithin(absl::Seconds(60)));
  const int streams = service_.streams;
  const std::vector<TokenId> tokens(1'000'000, 3);
  std::vector<DraftQuery> queries(20);
  for (size_t i = 0; i < queries.size(); ++i) {
    queries[i] = Query(100 + i, tokens);
  }
  size_t answered = 0;
  int steps = 0;
  for (; steps < 20 && answered < queries.size(); ++steps) {
    std::vector<DraftReply> replies;
    source_->Ask(queries);
    source_->Take(replies);
    answered = 0;
    for (const DraftReply& reply : replies) answered += reply.missed ? 0 : 1;
    EXPECT_GT(answered, 0u);
  }
  EXPECT_EQ(answered, queries.size()) << "after " << steps << " steps";
  EXPECT_EQ(service_.streams, streams);
  EXPECT_TRUE(source_->available());
}

TEST_F(RemoteDraft, ARefusalIsAskedAgainLessAndLessOften) {
  ASSERT_TRUE(ResumesWithin(absl::Seconds(10)));
  service_.mode = FakeService::kRefuse;
  const int streams = service_.streams;
  const absl::Time start = absl::Now();
  while (absl::Now() < start + absl::Seconds(2)) {
    EXPECT_TRUE(Ask().missed);
    absl::SleepFor(absl::Milliseconds(5));
  }
  // Pauses of 20, 40, 80, ... ms; and the stream that was open.
  const double pauses =
      std::log2(absl::FDivDuration(absl::Now() - start, absl::Milliseconds(20)) + 1);
  EXPECT_LE(service_.streams - streams, static_cast<int>(pauses) + 2);
  EXPECT_FALSE(source_->available());
}

TEST_F(RemoteDraft, AReplicaThatRefusesDoesNotKeepTheOthersFromDrafting) {
  FakeService foreign;
  foreign.mode = FakeService::kRefuse;
  rpc::ServerOptions options;
  const std::array<grpc::Service*, 1> services = {&foreign};
  auto server = rpc::Server::Start(options, services);
  ASSERT_TRUE(server.ok()) << server.status();
  source_ = NewRemoteDraftSource(
      NewDraftChannel(absl::StrCat("ipv4:", (*server)->address(), ",", address_),
                      grpc::InsecureChannelCredentials()),
      {"verifier", "model", "f", 100}, RemoteDraftOptions(), nullptr);
  // Streams go round, so some of these begin with the foreign one.
  for (int round = 0; round < 4 || foreign.streams == 0; ++round) {
    ASSERT_LT(round, 100);
    ASSERT_TRUE(ResumesWithin(absl::Seconds(20)));
    service_.mode = FakeService::kSilent;
    while (!Ask().missed || source_->available()) absl::SleepFor(absl::Milliseconds(1));
    service_.mode = FakeService::kGood;
  }
}

}  // namespace
}  // namespace strata::verify
