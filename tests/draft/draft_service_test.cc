// The service over a real loopback connection: its own server, in this process.
#include "services/draft/server/draft_service.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <thread>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/rpc/server.h"
#include "services/draft/hierarchy/hierarchy_drafter.h"
#include "strata/v1/draft.grpc.pb.h"
#include "tests/common/raw_call.h"
#include "tests/draft/reference_tier.h"
#include "tests/draft/test_util.h"

namespace strata::draft {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class DraftServiceTest : public testing::Test {
 protected:
  using Stream = grpc::ClientReaderWriter<v1::DraftRequest, v1::DraftResponse>;

  void SetUp() override {
    // Whatever came last, 40 and 41 follow.
    const auto corpus = std::make_shared<ReferenceTier>(TierKind::kCorpus);
    for (TokenId token = 0; token < 40; ++token) corpus->Teach({token, 40, 41});
    auto drafter = NewDrafter({.corpus = corpus,
                               .corpus_info =
                                   [] {
                                     return CorpusInfo{"snap", 77};
                                   },
                               .tokenizer_fingerprint = "fp",
                               .policy = {.policy = Policy::kLocality}});
    ASSERT_TRUE(drafter.ok()) << drafter.status();
    drafter_ = *std::move(drafter);
    service_ = std::make_unique<DraftService>(drafter_.get(), "fp", "1.2.3");
    const std::array<grpc::Service*, 1> services = {service_.get()};
    auto server = rpc::Server::Start({}, services);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    grpc::ChannelArguments arguments;
    arguments.SetMaxSendMessageSize(-1);
    channel_ = grpc::CreateCustomChannel(server_->address(), grpc::InsecureChannelCredentials(),
                                         arguments);
    stub_ = v1::DraftService::NewStub(channel_);
  }

  static v1::DraftRequest Request(bool handshake = true) {
    v1::DraftRequest request;
    request.set_step(1);
    if (handshake) Fill(*request.mutable_handshake());
    return request;
  }
  static void Fill(v1::Handshake& handshake) {
    handshake.set_verifier_id("verifier");
    handshake.set_tokenizer_fingerprint("fp");
    handshake.set_model_id("model");
    handshake.set_vocab_size(1000);
  }
  static v1::SequenceRequest* Add(v1::DraftRequest& request, uint64_t id, uint32_t position,
                                  const Tokens& tokens, uint32_t budget = 8) {
    v1::SequenceRequest* sequence = request.add_sequences();
    sequence->set_sequence_id(id);
    sequence->set_position(position);
    sequence->mutable_tokens()->Add(tokens.begin(), tokens.end());
    sequence->set_node_budget(budget);
    return sequence;
  }
  // Sends the messages on one new stream, reads until it ends.
  grpc::Status Exchange(const std::vector<v1::DraftRequest>& requests,
                        std::vector<v1::DraftResponse>* responses = nullptr) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    const auto stream = stub_->DraftStream(&context);
    for (const v1::DraftRequest& request : requests) {
      if (!stream->Write(request)) break;
    }
    stream->WritesDone();
    v1::DraftResponse response;
    while (stream->Read(&response)) {
      if (responses != nullptr) responses->push_back(response);
    }
    return stream->Finish();
  }
  void ExpectRefused(const v1::DraftRequest& request, grpc::StatusCode code,
                     const std::string& what) {
    const grpc::Status status = Exchange({request});
    EXPECT_EQ(status.error_code(), code) << status.error_message();
    EXPECT_THAT(status.error_message(), HasSubstr(what));
  }
  // The service still works, and every sequence of streams that ended is freed.
  void ExpectHealthy() {
    v1::DraftRequest request = Request();
    Add(request, 1, 0, {1, 2, 1});
    std::vector<v1::DraftResponse> responses;
    const grpc::Status status = Exchange({request}, &responses);
    EXPECT_TRUE(status.ok()) << status.error_message();
    ASSERT_EQ(responses.size(), 1u);
    EXPECT_THAT(responses[0].answers(0).tree().tokens(), ElementsAre(2, 1, 2, 1, 40, 41));
    // A stream's session is closed on the server's side of its end, which a client cannot await.
    for (int i = 0; i < 500 && drafter_->Stats().live_sequences > 0; ++i) {
      absl::SleepFor(absl::Milliseconds(10));
    }
    EXPECT_EQ(drafter_->Stats().live_sequences, 0u);
  }

  std::unique_ptr<Drafter> drafter_;
  std::unique_ptr<DraftService> service_;
  std::unique_ptr<rpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::DraftService::Stub> stub_;
};

// Behind the answer, in the same order, for those that ask for it.
TEST_F(DraftServiceTest, GoesOnToDraftAhead) {
  v1::DraftRequest first = Request();
  first.set_step(41);
  Add(first, 9, 0, {1, 2, 1}, /*budget=*/2)->set_ahead_nodes(5);
  Add(first, 10, 0, {3, 4, 3}, /*budget=*/2);
  Add(first, 11, 0, {5, 6, 5}, /*budget=*/0)->set_ahead_nodes(5);
  // Known to nobody.
  Add(first, 12, 3, {5}, /*budget=*/2)->set_ahead_nodes(5);
  v1::DraftRequest second = Request(/*handshake=*/false);
  second.set_step(42);
  // The verdict is on the answer's tree, not on that ahead.
  v1::SequenceRequest* sequence = Add(second, 9, 3, {2, 1}, /*budget=*/2);
  sequence->set_has_feedback(true);
  sequence->add_accepted_nodes(0);
  sequence->add_accepted_nodes(1);
  Add(second, 11, 3, {6})->set_close(true);
  second.mutable_sequences(1)->set_ahead_nodes(5);
  std::vector<v1::DraftResponse> responses;
  const grpc::Status status = Exchange({first, second}, &responses);
  EXPECT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(responses.size(), 4u);
  EXPECT_FALSE(responses[0].ahead());
  ASSERT_EQ(responses[0].answers_size(), 4);
  EXPECT_THAT(responses[0].answers(0).tree().tokens(), ElementsAre(2, 1));
  EXPECT_THAT(responses[0].answers(2).tree().tokens(), ElementsAre());
  EXPECT_EQ(responses[0].answers(3).status(), v1::SEQUENCE_STATUS_UNKNOWN);

  EXPECT_TRUE(responses[1].ahead());
  EXPECT_EQ(responses[1].step(), 41u);
  ASSERT_EQ(responses[1].answers_size(), 2);
  EXPECT_EQ(responses[1].answers(0).sequence_id(), 9u);
  EXPECT_EQ(responses[1].answers(0).position(), 3u);
  EXPECT_EQ(responses[1].answers(0).status(), v1::SEQUENCE_STATUS_OK);
  EXPECT_THAT(responses[1].answers(0).tree().tokens(), ElementsAre(2, 1, 2, 1, 40));
  EXPECT_EQ(responses[1].answers(1).sequence_id(), 11u);
  EXPECT_THAT(responses[1].answers(1).tree().tokens(), ElementsAre(6, 5, 6, 5, 40));

  EXPECT_EQ(responses[2].step(), 42u);
  EXPECT_EQ(responses[2].answers(0).status(), v1::SEQUENCE_STATUS_OK)
      << responses[2].answers(0).message();
  // A sequence that ends needs none.
  EXPECT_TRUE(responses[3].ahead());
  EXPECT_EQ(responses[3].answers_size(), 0);
  ExpectHealthy();
}

TEST_F(DraftServiceTest, DraftsAheadOfTheLastOfASequencesUpdates) {
  v1::DraftRequest request = Request();
  Add(request, 9, 0, {1, 2, 1}, /*budget=*/2)->set_ahead_nodes(5);
  Add(request, 9, 3, {2}, /*budget=*/2)->set_ahead_nodes(5);
  std::vector<v1::DraftResponse> responses;
  const grpc::Status status = Exchange({request}, &responses);
  EXPECT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(responses.size(), 2u);
  ASSERT_EQ(responses[1].answers_size(), 1);
  EXPECT_EQ(responses[1].answers(0).position(), 4u);
  EXPECT_THAT(responses[1].answers(0).tree().tokens(), ElementsAre(1, 2, 1, 2, 40));
}

TEST_F(DraftServiceTest, DraftsOverAStream) {
  v1::DraftRequest first = Request();
  first.set_step(41);
  v1::SequenceRequest* sequence = Add(first, 9, 0, {1, 2, 3, 1});
  sequence->set_epoch(5);
  v1::DraftRequest second = Request(/*handshake=*/false);
  second.set_step(42);
  sequence = Add(second, 9, 4, {2});
  sequence->set_epoch(5);
  sequence->set_has_feedback(true);
  sequence->add_accepted_nodes(0);
  Add(second, 10, 3, {2});
  std::vector<v1::DraftResponse> responses;
  const grpc::Status status = Exchange({first, second}, &responses);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(responses.size(), 2u);
  EXPECT_EQ(responses[0].step(), 41u);
  const v1::SequenceAnswer& answer = responses[0].answers(0);
  EXPECT_EQ(answer.status(), v1::SEQUENCE_STATUS_OK);
  EXPECT_EQ(answer.sequence_id(), 9u);
  EXPECT_EQ(answer.epoch(), 5u);
  EXPECT_EQ(answer.position(), 4u);
  EXPECT_THAT(answer.tree().tokens(), ElementsAre(2, 3, 1, 2, 40, 41));
  EXPECT_THAT(answer.tree().parents(), ElementsAre(-1, 0, 1, 2, -1, 4));
  EXPECT_THAT(answer.tree().tiers(),
              ElementsAre(v1::TIER_CONTEXT, v1::TIER_CONTEXT, v1::TIER_CONTEXT, v1::TIER_CONTEXT,
                          v1::TIER_CORPUS, v1::TIER_CORPUS));
  EXPECT_EQ(answer.tree().confidences_size(), 6);
  ASSERT_EQ(responses[1].answers_size(), 2);
  EXPECT_EQ(responses[1].step(), 42u);
  EXPECT_EQ(responses[1].answers(0).tree().tokens(0), 3u);
  EXPECT_EQ(responses[1].answers(1).status(), v1::SEQUENCE_STATUS_UNKNOWN);
  EXPECT_EQ(responses[1].answers(1).sequence_id(), 10u);
  ExpectHealthy();
}

TEST_F(DraftServiceTest, HandshakesThatCannotBeServedEndTheStream) {
  ExpectRefused(Request(/*handshake=*/false), grpc::INVALID_ARGUMENT, "must have a handshake");
  v1::DraftRequest request = Request();
  request.mutable_handshake()->set_tokenizer_fingerprint("other");
  ExpectRefused(request, grpc::FAILED_PRECONDITION, "fingerprint other is not");
  request = Request();
  request.mutable_handshake()->clear_verifier_id();
  ExpectRefused(request, grpc::INVALID_ARGUMENT, "verifier_id has 0 bytes");
  request = Request();
  request.mutable_handshake()->set_model_id(std::string(300, 'm'));
  ExpectRefused(request, grpc::INVALID_ARGUMENT, "model_id has 300 bytes");
  request = Request();
  request.mutable_handshake()->set_vocab_size(0);
  ExpectRefused(request, grpc::INVALID_ARGUMENT, "vocab_size is 0");
  request.mutable_handshake()->set_vocab_size(UINT32_MAX);
  ExpectRefused(request, grpc::INVALID_ARGUMENT, "vocab_size is 4294967295");
  ExpectHealthy();
}

TEST_F(DraftServiceTest, AHandshakeMayBeRepeatedButNotChanged) {
  v1::DraftRequest other = Request();
  other.mutable_handshake()->set_model_id("other");
  std::vector<v1::DraftResponse> responses;
  const grpc::Status status = Exchange({Request(), Request(), other}, &responses);
  EXPECT_EQ(responses.size(), 2u);
  EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("handshake differs"));
}

TEST_F(DraftServiceTest, BatchesAreBounded) {
  v1::DraftRequest request = Request();
  for (uint64_t id = 0; id < 1024; ++id) Add(request, id, 0, {1});
  std::vector<v1::DraftResponse> responses;
  EXPECT_TRUE(Exchange({request}, &responses).ok());
  ASSERT_EQ(responses.size(), 1u);
  EXPECT_EQ(responses[0].answers_size(), 1024);
  Add(request, 1024, 0, {1});
  ExpectRefused(request, grpc::INVALID_ARGUMENT, "1025 sequences, at most 1024");
  ExpectHealthy();
}

TEST_F(DraftServiceTest, MalformedSequencesAreAnsweredOneByOne) {
  v1::DraftRequest request = Request();
  Add(request, 1, 0, {1, 1000});
  v1::SequenceRequest* sequence = Add(request, 2, 0, {1});
  sequence->add_tokens(UINT32_MAX);
  Add(request, 3, 0, {1, 2, 1});
  Add(request, 4, 0, {1})->set_policy(static_cast<v1::Policy>(77));
  Add(request, 5, 0, {});
  sequence = Add(request, 3, 3, {});
  sequence->set_has_feedback(true);
  sequence->add_accepted_nodes(UINT32_MAX);
  Add(request, 6, UINT32_MAX, {1});
  std::vector<v1::DraftResponse> responses;
  ASSERT_TRUE(Exchange({request}, &responses).ok());
  ASSERT_EQ(responses.size(), 1u);
  const auto expect = [&](int i, v1::SequenceStatus status, const std::string& what) {
    EXPECT_EQ(responses[0].answers(i).status(), status) << i;
    EXPECT_THAT(responses[0].answers(i).message(), HasSubstr(what));
  };
  expect(0, v1::SEQUENCE_STATUS_INVALID, "tokens[1] is 1000");
  expect(1, v1::SEQUENCE_STATUS_INVALID, "tokens[1] is 4294967295");
  expect(2, v1::SEQUENCE_STATUS_OK, "");
  expect(3, v1::SEQUENCE_STATUS_INVALID,
         "policy is 77, which is not a policy (0: the default, 1: locality, 2: calibrated)");
  expect(4, v1::SEQUENCE_STATUS_INVALID, "at least one token");
  expect(5, v1::SEQUENCE_STATUS_INVALID, "accepted_nodes");
  expect(6, v1::SEQUENCE_STATUS_EXHAUSTED, "4294967296 tokens");
  ExpectHealthy();
}

TEST_F(DraftServiceTest, ATraceparentChangesNothing) {
  for (const std::string& traceparent :
       {std::string(), std::string("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        std::string("nonsense"), std::string("\xff\x00\x80", 3), std::string(100000, '0')}) {
    v1::DraftRequest request = Request();
    Add(request, 1, 0, {1, 2, 1})->set_traceparent(traceparent);
    std::vector<v1::DraftResponse> responses;
    const grpc::Status status = Exchange({request}, &responses);
    EXPECT_TRUE(status.ok()) << status.error_message();
    ASSERT_EQ(responses.size(), 1u);
    EXPECT_THAT(responses[0].answers(0).tree().tokens(), ElementsAre(2, 1, 2, 1, 40, 41));
  }
}

TEST_F(DraftServiceTest, AMessageOf64MiBIsRefusedWithAStatus) {
  v1::DraftRequest large = Request();
  // Five bytes each on the wire.
  Add(large, 1, 0, {})->mutable_tokens()->Resize((64 << 20) / 5, UINT32_MAX);
  ASSERT_GT(large.ByteSizeLong(), size_t{60} << 20);
  ExpectRefused(large, grpc::RESOURCE_EXHAUSTED, "larger than max");
  v1::DraftOnceRequest once;
  Fill(*once.mutable_handshake());
  once.mutable_tokens()->Resize((64 << 20) / 5, UINT32_MAX);
  v1::DraftOnceResponse response;
  grpc::ClientContext context;
  EXPECT_EQ(stub_->DraftOnce(&context, once, &response).error_code(), grpc::RESOURCE_EXHAUSTED);
  ExpectHealthy();
}

TEST_F(DraftServiceTest, BytesThatAreNoMessageAreRefusedWithASentence) {
  v1::DraftRequest request = Request();
  Add(request, 1, 0, {1, 2, 1});
  v1::DraftOnceRequest once;
  Fill(*once.mutable_handshake());
  const auto half = [](const std::string& whole) { return whole.substr(0, whole.size() / 2); };
  struct Case {
    const char* method;
    const char* message;
    std::string bytes;
  };
  const std::string garbage = "\xff\xff\xff\xff garbage";
  for (const Case& test : {Case{"DraftStream", "DraftRequest", garbage},
                           Case{"DraftStream", "DraftRequest", half(request.SerializeAsString())},
                           Case{"DraftOnce", "DraftOnceRequest", garbage},
                           Case{"DraftOnce", "DraftOnceRequest", half(once.SerializeAsString())},
                           // A tenant (field 5) of one byte that no UTF-8 has.
                           Case{"DraftOnce", "DraftOnceRequest", "\x2a\x01\xff"},
                           Case{"GetDraftInfo", "GetDraftInfoRequest", garbage}}) {
    const grpc::Status status =
        CallWithBytes(channel_, absl::StrCat("/strata.v1.DraftService/", test.method), test.bytes);
    EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT) << test.method;
    EXPECT_THAT(status.error_message(),
                HasSubstr(absl::StrCat("is not a strata.v1.", test.message)));
  }
  ExpectHealthy();
}

TEST_F(DraftServiceTest, AStreamThatIsAbandonedFreesItsSequences) {
  {
    grpc::ClientContext context;
    const auto stream = stub_->DraftStream(&context);
    v1::DraftRequest request = Request();
    for (uint64_t id = 0; id < 10; ++id) Add(request, id, 0, {1, 2});
    ASSERT_TRUE(stream->Write(request));
    v1::DraftResponse response;
    ASSERT_TRUE(stream->Read(&response));
    EXPECT_EQ(drafter_->Stats().live_sequences, 10u);
    context.TryCancel();
    EXPECT_EQ(stream->Finish().error_code(), grpc::CANCELLED);
  }
  ExpectHealthy();
}

// A TCP connection that speaks HTTP/2 and is cut inside a message: the frame promises more bytes
// than ever come.
TEST_F(DraftServiceTest, AConnectionCutInsideAMessageIsSurvived) {
  const std::string address = server_->address();
  int port = 0;
  ASSERT_TRUE(absl::SimpleAtoi(address.substr(address.rfind(':') + 1), &port));
  for (int round = 0; round < 20; ++round) {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    ASSERT_GE(fd, 0);
    sockaddr_in target{};
    target.sin_family = AF_INET;
    target.sin_port = htons(static_cast<uint16_t>(port));
    target.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&target), sizeof(target)), 0);
    std::string bytes = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    bytes += std::string("\0\0\0\4\0\0\0\0\0", 9);  // SETTINGS, empty
    // HEADERS of stream 1, END_HEADERS, literal fields without indexing.
    std::string headers;
    const std::vector<std::pair<std::string, std::string>> fields = {
        {":method", "POST"},
        {":scheme", "http"},
        {":path", "/strata.v1.DraftService/DraftStream"},
        {":authority", "localhost"},
        {"te", "trailers"},
        {"content-type", "application/grpc"}};
    for (const auto& [name, value] : fields) {
      headers += '\0';
      headers += static_cast<char>(name.size());
      headers += name;
      headers += static_cast<char>(value.size());
      headers += value;
    }
    bytes += std::string("\0\0", 2) + static_cast<char>(headers.size()) +
             std::string("\1\4\0\0\0\1", 6) + headers;
    // DATA of stream 1: a gRPC message of 1,000 bytes, of which 10 come.
    bytes += std::string("\0\0\x0f\0\0\0\0\0\1", 9) + std::string("\0\0\0\3\xe8", 5) +
             std::string(10, 'x');
    ASSERT_EQ(send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
    absl::SleepFor(absl::Milliseconds(5));
    close(fd);
  }
  ExpectHealthy();
}

TEST_F(DraftServiceTest, DraftOnce) {
  v1::DraftOnceRequest request;
  v1::DraftOnceResponse response;
  const auto call = [&] {
    grpc::ClientContext context;
    return stub_->DraftOnce(&context, request, &response);
  };
  EXPECT_EQ(call().error_code(), grpc::INVALID_ARGUMENT);
  Fill(*request.mutable_handshake());
  EXPECT_THAT(call().error_message(), HasSubstr("no tokens"));
  for (const uint32_t token : {1u, 2u, 3u, 1u}) request.add_tokens(token);
  request.set_node_budget(2);
  const grpc::Status status = call();
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_THAT(response.tree().tokens(), ElementsAre(2, 3));
  request.add_tokens(1000);
  EXPECT_EQ(call().error_code(), grpc::INVALID_ARGUMENT);
  request.mutable_handshake()->set_tokenizer_fingerprint("other");
  EXPECT_EQ(call().error_code(), grpc::FAILED_PRECONDITION);
}

TEST_F(DraftServiceTest, GetDraftInfo) {
  grpc::ClientContext context;
  v1::GetDraftInfoResponse response;
  ASSERT_TRUE(stub_->GetDraftInfo(&context, {}, &response).ok());
  EXPECT_EQ(response.tokenizer_fingerprint(), "fp");
  EXPECT_EQ(response.snapshot(), "snap");
  EXPECT_EQ(response.corpus_tokens(), 77u);
  EXPECT_EQ(response.live_sequences(), 0u);
  EXPECT_EQ(response.version(), "1.2.3");
}

TEST_F(DraftServiceTest, ADrainEndsStreamsThatWait) {
  grpc::ClientContext context;
  const auto stream = stub_->DraftStream(&context);
  v1::DraftRequest request = Request();
  Add(request, 1, 0, {1, 2, 1});
  ASSERT_TRUE(stream->Write(request));
  v1::DraftResponse response;
  ASSERT_TRUE(stream->Read(&response));
  const absl::Time start = absl::Now();
  service_->Drain();
  EXPECT_FALSE(stream->Read(&response));
  const grpc::Status status = stream->Finish();
  EXPECT_TRUE(status.error_code() == grpc::CANCELLED || status.error_code() == grpc::UNAVAILABLE)
      << status.error_code();
  server_->Shutdown(absl::Seconds(30));
  EXPECT_LT(absl::Now() - start, absl::Seconds(20)) << "waited for the grace instead of the drain";
  EXPECT_EQ(drafter_->Stats().live_sequences, 0u);
}

TEST_F(DraftServiceTest, StreamsAtOnce) {
  std::vector<std::thread> verifiers;
  for (int v = 0; v < 4; ++v) {
    verifiers.emplace_back([this] {
      grpc::ClientContext context;
      const auto stream = stub_->DraftStream(&context);
      Tokens tokens = {1, 2, 1};
      for (uint32_t step = 0; step < 100; ++step) {
        v1::DraftRequest request = Request();
        request.set_step(step);
        if (step == 0) {
          Add(request, 1, 0, tokens);
        } else {
          Add(request, 1, 2 + step, {static_cast<TokenId>(step % 7)});
        }
        ASSERT_TRUE(stream->Write(request));
        v1::DraftResponse response;
        ASSERT_TRUE(stream->Read(&response));
        EXPECT_EQ(response.step(), step);
        EXPECT_EQ(response.answers(0).status(), v1::SEQUENCE_STATUS_OK);
      }
      stream->WritesDone();
      EXPECT_TRUE(stream->Finish().ok());
    });
  }
  for (std::thread& verifier : verifiers) verifier.join();
  ExpectHealthy();
}

}  // namespace
}  // namespace strata::draft
