// The service over a real loopback connection, on the fake engine: what each bad
// request is answered with, and that the service goes on afterwards.
#include "services/verify/server/generate_service.h"

#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <thread>

#include "absl/time/clock.h"
#include "common/log/log.h"
#include "common/rpc/server.h"
#include "services/draft/hierarchy/hierarchy_drafter.h"
#include "services/verify/drafting/embedded_draft_source.h"
#include "strata/v1/generate.grpc.pb.h"
#include "tests/common/raw_call.h"
#include "tests/common/trace/trace_file.h"
#include "tests/verify/fake_engine.h"

namespace strata::verify {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Echoes the last message; raises as a template does on an unknown role.
class FakeChatTemplate final : public ChatTemplate {
 public:
  absl::StatusOr<std::string> Render(const std::vector<ChatMessage>& messages,
                                     bool add_generation_prompt) const override {
    if (messages.back().role != "user") return absl::InvalidArgumentError("roles must alternate");
    return messages.back().content;
  }
};

class GenerateServiceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto drafter = draft::NewDrafter({});
    ASSERT_TRUE(drafter.ok()) << drafter.status();
    auto source = NewEmbeddedDraftSource(std::shared_ptr<draft::Drafter>(*std::move(drafter)),
                                         {"test", "fake", tokenizer_.fingerprint(), kFakeVocab},
                                         absl::Seconds(5));
    ASSERT_TRUE(source.ok()) << source.status();
    SchedulerOptions options;
    options.measured_budget = false;
    options.max_batch = 4;
    scheduler_ = std::make_unique<Scheduler>(options, engine_, tokenizer_, *std::move(source));
    reader_ = std::make_unique<RequestReader>(tokenizer_, &chat_template_, kFakeVocab,
                                              engine_.info().eos_token_ids, RequestLimits());
    service_ = std::make_unique<GenerateService>(*scheduler_, engine_, *reader_,
                                                 ServiceIdentity{"fake", "f", "1.2.3"});
    StartServer();
  }
  void StartServer() {
    const std::array<grpc::Service*, 1> services = {service_.get()};
    auto server = rpc::Server::Start({}, services);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    grpc::ChannelArguments arguments;
    arguments.SetMaxSendMessageSize(-1);
    channel_ = grpc::CreateCustomChannel(server_->address(), grpc::InsecureChannelCredentials(),
                                         arguments);
    stub_ = v1::GenerateService::NewStub(channel_);
  }

  static v1::GenerateRequest Good() {
    v1::GenerateRequest request;
    request.set_text("abcabcab");
    request.set_max_tokens(20);
    request.set_ignore_eos(true);
    return request;
  }

  struct Outcome {
    grpc::Status status;
    std::vector<uint32_t> tokens;
    std::string text;
    v1::GenerateResponse last;
  };
  Outcome Run(const v1::GenerateRequest& request) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    auto stream = stub_->Generate(&context, request);
    Outcome outcome;
    while (stream->Read(&outcome.last)) {
      outcome.tokens.insert(outcome.tokens.end(), outcome.last.token_ids().begin(),
                            outcome.last.token_ids().end());
      outcome.text += outcome.last.text();
    }
    outcome.status = stream->Finish();
    return outcome;
  }

  void ExpectHealthy() {
    const Outcome outcome = Run(Good());
    EXPECT_TRUE(outcome.status.ok()) << outcome.status.error_message();
    EXPECT_EQ(outcome.tokens.size(), 20u);
  }

  // Both outlive the scheduler.
  FakeEngine engine_;
  FakeTokenizer tokenizer_;
  FakeChatTemplate chat_template_;
  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<RequestReader> reader_;
  std::unique_ptr<GenerateService> service_;
  std::unique_ptr<rpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::GenerateService::Stub> stub_;
};

TEST_F(GenerateServiceTest, DraftsChangeNothingAndAreCounted) {
  for (float temperature : {0.0f, 0.9f}) {
    v1::GenerateRequest request = Good();
    request.set_max_tokens(200);
    request.mutable_sampling()->set_temperature(temperature);
    request.mutable_sampling()->set_seed(11);
    const Outcome drafted = Run(request);
    request.mutable_speculation()->set_disabled(true);
    const Outcome plain = Run(request);
    ASSERT_TRUE(drafted.status.ok() && plain.status.ok());
    EXPECT_EQ(drafted.tokens, plain.tokens);
    EXPECT_EQ(drafted.text, plain.text);
    EXPECT_EQ(drafted.last.finish_reason(), v1::FINISH_REASON_LENGTH);
    const v1::GenerationStatistics& statistics = drafted.last.statistics();
    EXPECT_EQ(statistics.output_tokens(), 200u);
    EXPECT_EQ(statistics.seed(), 11u);
    EXPECT_GT(statistics.drafted(), 0u);
    // The first token comes from prefill; each step adds one and what it accepted.
    EXPECT_EQ(1 + statistics.steps() + statistics.accepted(), 200u);
    uint64_t by_position = 0;
    for (uint64_t accepted : statistics.accepted_by_position()) by_position += accepted;
    EXPECT_EQ(by_position, statistics.accepted());
    EXPECT_EQ(plain.last.statistics().drafted(), 0u);
  }
}

TEST_F(GenerateServiceTest, TimeGoesToThePartThatTookIt) {
  v1::GenerateRequest request = Good();
  request.set_max_tokens(60);
  const v1::GenerationStatistics drafted = Run(request).last.statistics();
  EXPECT_GT(drafted.prefill_seconds(), 0);
  EXPECT_GT(drafted.draft_seconds(), 0);
  EXPECT_GT(drafted.verify_seconds(), 0);
  EXPECT_LE(drafted.prefill_seconds() + drafted.draft_seconds() + drafted.verify_seconds(),
            drafted.total_seconds());

  request.mutable_speculation()->set_disabled(true);
  const v1::GenerationStatistics plain = Run(request).last.statistics();
  EXPECT_GT(plain.prefill_seconds(), 0);
  EXPECT_EQ(plain.draft_seconds(), 0);
  EXPECT_GT(plain.verify_seconds(), 0);

  // The one token is the prompt's own.
  request.set_max_tokens(1);
  request.clear_speculation();
  const v1::GenerationStatistics one = Run(request).last.statistics();
  EXPECT_GT(one.prefill_seconds(), 0);
  EXPECT_EQ(one.draft_seconds(), 0);
  EXPECT_EQ(one.verify_seconds(), 0);
}

// Of the model, whatever was sampled by: generate.proto, TokenLogprob.
TEST_F(GenerateServiceTest, LogProbabilitiesAreTheModelsOwn) {
  v1::GenerateRequest request = Good();
  request.set_logprobs(true);
  request.set_top_logprobs(3);
  request.mutable_sampling()->set_temperature(0.7f);
  request.mutable_sampling()->set_top_k(9);
  request.mutable_sampling()->set_repetition_penalty(1.5f);
  request.mutable_sampling()->set_presence_penalty(0.6f);
  request.mutable_sampling()->set_seed(4);
  grpc::ClientContext context;
  auto stream = stub_->Generate(&context, request);
  std::vector<v1::TokenLogprob> reported;
  for (v1::GenerateResponse response; stream->Read(&response);) {
    reported.insert(reported.end(), response.logprobs().begin(), response.logprobs().end());
  }
  ASSERT_TRUE(stream->Finish().ok());
  ASSERT_EQ(reported.size(), 20u);
  std::vector<int32_t> path = tokenizer_.Encode(request.text(), true);
  std::vector<float> logits(kFakeVocab);
  for (const v1::TokenLogprob& token : reported) {
    FakeLogits(path, logits);
    double total = 0;
    for (const float logit : logits) total += std::exp(logit);
    EXPECT_NEAR(token.logprob(), logits[token.id()] - std::log(total), 1e-5);
    ASSERT_EQ(token.top_size(), 3);
    std::vector<float> sorted = logits;
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(logits[token.top(i).id()], sorted[i]);
      EXPECT_NEAR(token.top(i).logprob(), sorted[i] - std::log(total), 1e-5);
    }
    path.push_back(static_cast<int32_t>(token.id()));
  }
}

TEST_F(GenerateServiceTest, AMissingSeedIsDrawnAndReported) {
  v1::GenerateRequest request = Good();
  request.mutable_sampling()->set_temperature(1);
  const Outcome first = Run(request);
  ASSERT_TRUE(first.status.ok());
  request.mutable_sampling()->set_seed(first.last.statistics().seed());
  EXPECT_EQ(Run(request).tokens, first.tokens);
}

struct BadRequest {
  const char* name;
  std::function<void(v1::GenerateRequest&)> spoil;
  grpc::StatusCode code;
  // Stands in the message.
  std::string says;
};

TEST_F(GenerateServiceTest, BadRequestsAreRefusedWithASentence) {
  const float nan = std::nanf("");
  const float infinity = std::numeric_limits<float>::infinity();
  const auto invalid = grpc::INVALID_ARGUMENT;
  const std::vector<BadRequest> cases = {
      {"no prompt", [](auto& r) { r.clear_prompt(); }, invalid, "prompt is missing"},
      {"empty text", [](auto& r) { r.set_text(""); }, invalid, "prompt is empty"},
      {"no ids", [](auto& r) { r.mutable_tokens(); }, invalid, "prompt is empty"},
      {"no messages", [](auto& r) { r.mutable_chat(); }, invalid, "no messages"},
      {"no role", [](auto& r) { r.mutable_chat()->add_messages(); }, invalid, "no role"},
      {"the template complains",
       [](auto& r) { r.mutable_chat()->add_messages()->set_role("robot"); }, invalid, "alternate"},
      {"id too large", [](auto& r) { r.mutable_tokens()->add_ids(kFakeVocab); }, invalid,
       std::to_string(kFakeVocab)},
      {"id far too large", [](auto& r) { r.mutable_tokens()->add_ids(UINT32_MAX); }, invalid,
       absl::StrCat("4294967295, outside [0, ", kFakeVocab, ")")},
      {"temperature", [](auto& r) { r.mutable_sampling()->set_temperature(-1); }, invalid,
       "temperature is -1"},
      {"temperature nan", [=](auto& r) { r.mutable_sampling()->set_temperature(nan); }, invalid,
       "temperature"},
      {"temperature inf", [=](auto& r) { r.mutable_sampling()->set_temperature(infinity); },
       invalid, "temperature"},
      {"top_p 0", [](auto& r) { r.mutable_sampling()->set_top_p(0); }, invalid, "top_p is 0"},
      {"top_p 1.5", [](auto& r) { r.mutable_sampling()->set_top_p(1.5); }, invalid, "top_p"},
      {"top_k", [](auto& r) { r.mutable_sampling()->set_top_k(UINT32_MAX); }, invalid, "top_k"},
      {"min_p", [](auto& r) { r.mutable_sampling()->set_min_p(-0.1f); }, invalid, "min_p"},
      {"repetition", [](auto& r) { r.mutable_sampling()->set_repetition_penalty(0); }, invalid,
       "repetition_penalty"},
      {"presence", [=](auto& r) { r.mutable_sampling()->set_presence_penalty(nan); }, invalid,
       "presence_penalty"},
      {"frequency", [=](auto& r) { r.mutable_sampling()->set_frequency_penalty(infinity); },
       invalid, "frequency_penalty"},
      {"17 stops",
       [](auto& r) {
         for (int i = 0; i < 17; ++i) r.add_stop("x");
       },
       invalid, "stop has 17"},
      {"empty stop", [](auto& r) { r.add_stop(""); }, invalid, "0 bytes"},
      {"long stop", [](auto& r) { r.add_stop(std::string(257, 'x')); }, invalid, "257 bytes"},
      {"stop id", [](auto& r) { r.add_stop_token_ids(kFakeVocab); }, invalid,
       absl::StrCat("stop_token_ids holds ", kFakeVocab)},
      {"1,025 stop ids",
       [](auto& r) {
         for (int i = 0; i < 1025; ++i) r.add_stop_token_ids(1);
       },
       invalid, "stop_token_ids has 1025"},
      {"4,097 messages",
       [](auto& r) {
         for (int i = 0; i < 4097; ++i) r.mutable_chat()->add_messages()->set_role("user");
       },
       invalid, "4097 messages"},
      {"long role",
       [](auto& r) { r.mutable_chat()->add_messages()->set_role(std::string(129, 'r')); }, invalid,
       "129"},
      {"text of 8 MiB and a byte", [](auto& r) { r.set_text(std::string((8 << 20) + 1, 'a')); },
       invalid, "8388609"},
      {"messages of 8 MiB and a byte",
       [](auto& r) {
         v1::ChatMessage* message = r.mutable_chat()->add_messages();
         message->set_role("user");
         message->set_content(std::string(8 << 20, 'a'));
       },
       invalid, "8388612"},
      {"predicted text of 8 MiB and a byte",
       [](auto& r) {
         r.mutable_speculation()->set_predicted_text(std::string((8 << 20) + 1, 'a'));
       },
       invalid, "8388609"},
      {"logprobs", [](auto& r) { r.set_top_logprobs(21); }, invalid, "top_logprobs is 21"},
      {"tenant", [](auto& r) { r.set_tenant(std::string(129, 't')); }, invalid, "tenant has 129"},
      {"request id", [](auto& r) { r.set_request_id(std::string(129, 'i')); }, invalid,
       "request_id has 129"},
      {"policy", [](auto& r) { r.mutable_speculation()->set_policy(static_cast<v1::Policy>(99)); },
       invalid, "policy is 99"},
      {"nodes", [](auto& r) { r.mutable_speculation()->set_max_nodes(257); }, invalid,
       "max_nodes is 257, at most 256"},
      {"long prompt", [](auto& r) { r.set_text(std::string(4096, 'a')); }, grpc::OUT_OF_RANGE,
       "4096 tokens"},
  };
  for (const BadRequest& bad : cases) {
    v1::GenerateRequest request = Good();
    bad.spoil(request);
    const Outcome outcome = Run(request);
    EXPECT_EQ(outcome.status.error_code(), bad.code) << bad.name;
    EXPECT_THAT(outcome.status.error_message(), HasSubstr(bad.says)) << bad.name;
    EXPECT_TRUE(outcome.tokens.empty()) << bad.name;
  }
  ExpectHealthy();
}

TEST_F(GenerateServiceTest, AMessageOf64MiBIsRefusedWithAStatus) {
  v1::GenerateRequest request = Good();
  request.set_text(std::string(64 << 20, 'a'));
  EXPECT_EQ(Run(request).status.error_code(), grpc::RESOURCE_EXHAUSTED);
  v1::TokenizeRequest tokenize;
  tokenize.set_text(std::string(64 << 20, 'a'));
  grpc::ClientContext context;
  v1::TokenizeResponse ids;
  EXPECT_EQ(stub_->Tokenize(&context, tokenize, &ids).error_code(), grpc::RESOURCE_EXHAUSTED);
  ExpectHealthy();
}

TEST_F(GenerateServiceTest, BytesThatAreNoMessageAreRefusedWithASentence) {
  const std::string whole = Good().SerializeAsString();
  v1::GenerateRequest tokens;
  for (int i = 0; i < 100; ++i) tokens.mutable_tokens()->add_ids(i % 64);
  const std::string cut = tokens.SerializeAsString().substr(0, 50);
  // A text, which is field 1 of both requests, of one byte that no UTF-8 has.
  const std::string not_utf8("\x0a\x01\xff");
  for (const std::string& bytes : {std::string("\xff\xff\xff\xff garbage"), cut, not_utf8,
                                   whole + "\x07", whole.substr(0, whole.size() / 2)}) {
    const grpc::Status status =
        CallWithBytes(channel_, "/strata.v1.GenerateService/Generate", bytes);
    EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT) << status.error_message();
    EXPECT_THAT(status.error_message(), HasSubstr("is not a strata.v1.GenerateRequest"));
  }
  EXPECT_EQ(service_->counters().by_status[grpc::INVALID_ARGUMENT].value(), 5u);
  for (const std::string& bytes : {std::string("\xff\xff\xff\xff garbage"), not_utf8}) {
    const grpc::Status status =
        CallWithBytes(channel_, "/strata.v1.GenerateService/Tokenize", bytes);
    EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT) << status.error_message();
    EXPECT_THAT(status.error_message(), HasSubstr("is not a strata.v1.TokenizeRequest"));
  }
  const grpc::Status status =
      CallWithBytes(channel_, "/strata.v1.GenerateService/GetModelInfo", "\x07");
  EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT) << status.error_message();
  EXPECT_THAT(status.error_message(), HasSubstr("is not a strata.v1.GetModelInfoRequest"));
  ExpectHealthy();
}

// A call whose request does not come takes no thread from others.
TEST_F(GenerateServiceTest, CallsThatSendNothingKeepNobodyOut) {
  const int calls = 2 * rpc::ServerOptions().max_threads;
  grpc::GenericStub stub(channel_);
  grpc::CompletionQueue queue;
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::GenericClientAsyncReaderWriter>> idle;
  for (int i = 0; i < calls; ++i) {
    for (const char* method :
         {"/strata.v1.GenerateService/Generate", "/strata.v1.GenerateService/Tokenize"}) {
      contexts.push_back(std::make_unique<grpc::ClientContext>());
      idle.push_back(stub.PrepareCall(contexts.back().get(), method, &queue));
      idle.back()->StartCall(nullptr);
      void* tag;
      bool ok = false;
      ASSERT_TRUE(queue.Next(&tag, &ok) && ok);
    }
  }
  for (int i = 0; i < 3; ++i) ExpectHealthy();
  grpc::Status status;
  for (size_t i = 0; i < idle.size(); ++i) {
    contexts[i]->TryCancel();
    idle[i]->Finish(&status, nullptr);
    void* tag;
    bool ok = false;
    ASSERT_TRUE(queue.Next(&tag, &ok));
  }
}

// Some of them before their request has come.
TEST_F(GenerateServiceTest, WhoCancelsAtOnceHasMadeNoMistake) {
  const v1::GenerateRequest request = Good();
  for (int i = 0; i < 300; ++i) {
    grpc::ClientContext context;
    auto stream = stub_->Generate(&context, request);
    context.TryCancel();
    EXPECT_EQ(stream->Finish().error_code(), grpc::CANCELLED);
  }
  ExpectHealthy();
  const absl::Time end = absl::Now() + absl::Seconds(30);
  while (service_->counters().in_flight.value() > 0 && absl::Now() < end) {
    absl::SleepFor(absl::Milliseconds(5));
  }
  EXPECT_EQ(service_->counters().by_status[grpc::INVALID_ARGUMENT].value(), 0u);
}

TEST_F(GenerateServiceTest, AnyFinalTokenEndsTheAnswer) {
  // What the model says when nothing stops it.
  v1::GenerateRequest request = Good();
  request.set_max_tokens(60);
  request.mutable_sampling()->set_temperature(1);
  request.mutable_sampling()->set_seed(3);
  const Outcome free = Run(request);
  ASSERT_EQ(free.tokens.size(), 60u);
  EXPECT_EQ(free.last.finish_reason(), v1::FINISH_REASON_LENGTH);
  const auto up_to = [&free](std::initializer_list<uint32_t> final_tokens) {
    auto end = std::find_first_of(free.tokens.begin(), free.tokens.end(), final_tokens.begin(),
                                  final_tokens.end());
    if (end != free.tokens.end()) ++end;
    return std::vector<uint32_t>(free.tokens.begin(), end);
  };
  // Two that come late: the second of the pair ends it where that comes first.
  const uint32_t late = free.tokens[40];
  const uint32_t earlier = free.tokens[25];
  for (const bool disabled : {false, true}) {
    request.mutable_speculation()->set_disabled(disabled);
    request.clear_stop_token_ids();
    request.add_stop_token_ids(late);
    const Outcome one = Run(request);
    EXPECT_EQ(one.last.finish_reason(), v1::FINISH_REASON_EOS);
    EXPECT_EQ(one.tokens, up_to({late}));
    request.add_stop_token_ids(earlier);
    const Outcome two = Run(request);
    EXPECT_EQ(two.last.finish_reason(), v1::FINISH_REASON_EOS);
    EXPECT_EQ(two.tokens, up_to({late, earlier}));
  }
}

// The model's own, of which it may have several (generation_config.json).
TEST_F(GenerateServiceTest, EachEndOfSequenceTokenOfTheModelEndsTheAnswer) {
  v1::GenerateRequest request = Good();
  request.set_max_tokens(400);
  request.mutable_sampling()->set_temperature(1);
  request.mutable_sampling()->set_seed(5);
  const Outcome free = Run(request);
  ASSERT_EQ(free.tokens.size(), 400u);
  const auto eos = std::find(free.tokens.begin(), free.tokens.end(), uint32_t{kFakeEos});
  ASSERT_NE(eos, free.tokens.end()) << "choose another seed";
  // Another reader of the same model, that has two: the fake one's, and what comes first here.
  const auto first = static_cast<int32_t>(free.tokens[10]);
  ASSERT_LT(std::find(free.tokens.begin(), free.tokens.end(), free.tokens[10]), eos);
  request.set_ignore_eos(false);
  const Outcome stopped = Run(request);
  EXPECT_EQ(stopped.last.finish_reason(), v1::FINISH_REASON_EOS);
  EXPECT_EQ(stopped.tokens, std::vector<uint32_t>(free.tokens.begin(), eos + 1));

  const std::vector<int32_t> both = {kFakeEos, first};
  const RequestReader reader(tokenizer_, &chat_template_, kFakeVocab, both, RequestLimits());
  auto read = reader.Read(request);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->final_tokens, both);
  GenerateService service(*scheduler_, engine_, reader, ServiceIdentity{"fake", "f", "1.2.3"});
  const std::array<grpc::Service*, 1> services = {&service};
  auto server = rpc::Server::Start({}, services);
  ASSERT_TRUE(server.ok()) << server.status();
  stub_ = v1::GenerateService::NewStub(
      grpc::CreateChannel((*server)->address(), grpc::InsecureChannelCredentials()));
  const Outcome sooner = Run(request);
  EXPECT_EQ(sooner.last.finish_reason(), v1::FINISH_REASON_EOS);
  EXPECT_EQ(sooner.tokens.back(), static_cast<uint32_t>(first));
  EXPECT_LE(sooner.tokens.size(), 11u);
}

TEST_F(GenerateServiceTest, CancelledAndExpiredCallsFreeTheirPages) {
  v1::GenerateRequest request = Good();
  request.set_max_tokens(4000);
  {
    grpc::ClientContext context;
    auto stream = stub_->Generate(&context, request);
    v1::GenerateResponse response;
    ASSERT_TRUE(stream->Read(&response));
    context.TryCancel();
    EXPECT_EQ(stream->Finish().error_code(), grpc::CANCELLED);
  }
  {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(1));
    auto stream = stub_->Generate(&context, request);
    v1::GenerateResponse response;
    while (stream->Read(&response)) {
    }
    const grpc::StatusCode code = stream->Finish().error_code();
    EXPECT_TRUE(code == grpc::DEADLINE_EXCEEDED || code == grpc::OK) << code;
  }
  EXPECT_TRUE(scheduler_->WaitIdle(absl::Seconds(30)));
  EXPECT_EQ(engine_.kv_pages_free() + engine_.kv_pages_kept(), engine_.info().kv_pages_total);
  ExpectHealthy();
}

TEST_F(GenerateServiceTest, ManyCallsAtOnceGetTheTokensTheyGetAlone) {
  constexpr int kCalls = 12;
  std::vector<v1::GenerateRequest> requests;
  std::vector<Outcome> alone;
  for (int i = 0; i < kCalls; ++i) {
    v1::GenerateRequest request = Good();
    request.set_text(std::string(1 + i, 'a' + i));
    request.set_max_tokens(60);
    request.mutable_sampling()->set_temperature(i % 2 == 0 ? 0.0f : 0.8f);
    request.mutable_sampling()->set_seed(i);
    request.mutable_speculation()->set_disabled(i % 3 == 0);
    requests.push_back(request);
    alone.push_back(Run(request));
  }
  std::vector<Outcome> together(kCalls);
  std::vector<std::thread> threads;
  for (int i = 0; i < kCalls; ++i) {
    threads.emplace_back([&, i] { together[i] = Run(requests[i]); });
  }
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < kCalls; ++i) {
    EXPECT_TRUE(together[i].status.ok()) << together[i].status.error_message();
    EXPECT_EQ(together[i].tokens, alone[i].tokens) << i;
  }
}

TEST_F(GenerateServiceTest, CallsAreCountedByTheirStatus) {
  const auto count = [this](grpc::StatusCode code) {
    return service_->counters().by_status[code].value();
  };
  for (int i = 0; i < 3; ++i) ExpectHealthy();
  v1::GenerateRequest bad = Good();
  bad.clear_prompt();
  EXPECT_EQ(Run(bad).status.error_code(), grpc::INVALID_ARGUMENT);
  v1::GenerateRequest long_one = Good();
  long_one.set_max_tokens(4000);
  {
    grpc::ClientContext context;
    auto stream = stub_->Generate(&context, long_one);
    v1::GenerateResponse response;
    ASSERT_TRUE(stream->Read(&response));
    EXPECT_EQ(service_->counters().in_flight.value(), 1);
    context.TryCancel();
    EXPECT_EQ(stream->Finish().error_code(), grpc::CANCELLED);
  }
  // The client need not wait for the end of what it cancelled.
  const absl::Time end = absl::Now() + absl::Seconds(30);
  while (service_->counters().in_flight.value() > 0 && absl::Now() < end) {
    absl::SleepFor(absl::Milliseconds(5));
  }
  scheduler_->StopAdmission();
  EXPECT_EQ(Run(Good()).status.error_code(), grpc::UNAVAILABLE);
  EXPECT_EQ(count(grpc::OK), 3u);
  EXPECT_EQ(count(grpc::INVALID_ARGUMENT), 1u);
  EXPECT_EQ(count(grpc::CANCELLED), 1u);
  EXPECT_EQ(count(grpc::UNAVAILABLE), 1u);
  EXPECT_EQ(count(grpc::UNKNOWN), 0u);
  EXPECT_EQ(service_->counters().in_flight.value(), 0);
  const auto observed = [](const metrics::SecondsHistogram& histogram) {
    const std::vector<uint64_t> counts = histogram.Snapshot().counts;
    return std::accumulate(counts.begin(), counts.end(), uint64_t{0});
  };
  EXPECT_EQ(observed(service_->counters().seconds), 6u);
  EXPECT_EQ(observed(service_->counters().first_token_seconds), 4u);
}

TEST_F(GenerateServiceTest, ACallIsLoggedByItsIdAndWithoutItsText) {
  struct Case {
    const char* sent;  // null: no metadata
    const char* given;
    const char* id;  // null: made up
  };
  const std::string long_id(129, 'a');
  for (const Case& test :
       {Case{"abc-1.2:3", "ignored", "abc-1.2:3"}, Case{nullptr, "mine", "mine"},
        Case{nullptr, "", nullptr}, Case{"two words", "", nullptr}, Case{"\"}{", "mine", "mine"},
        Case{"", "", nullptr}, Case{long_id.c_str(), "a b", nullptr}}) {
    testing::internal::CaptureStderr();
    log::SetUp("test", spdlog::level::info, log::Format::kJson);
    grpc::ClientContext context;
    if (test.sent != nullptr) context.AddMetadata("x-request-id", test.sent);
    v1::GenerateRequest request = Good();
    request.set_request_id(test.given);
    auto stream = stub_->Generate(&context, request);
    v1::GenerateResponse response;
    std::string text;
    while (stream->Read(&response)) text += response.text();
    EXPECT_TRUE(stream->Finish().ok());
    server_->Shutdown(absl::Seconds(30));  // the line is written
    const std::string logged = testing::internal::GetCapturedStderr();
    const auto metadata = context.GetServerInitialMetadata().find("x-request-id");
    ASSERT_NE(metadata, context.GetServerInitialMetadata().end());
    const std::string id(metadata->second.data(), metadata->second.size());
    if (test.id == nullptr) {
      EXPECT_EQ(id.size(), 32u) << id;
    } else {
      EXPECT_EQ(id, test.id);
    }
    const auto line = nlohmann::json::parse(logged);
    EXPECT_EQ(line["message"], "request finished");
    EXPECT_EQ(line["request_id"], id);
    EXPECT_EQ(line["outcome"], "OK");
    EXPECT_EQ(line["finish"], "length");
    EXPECT_EQ(line["prompt_tokens"], 8);
    EXPECT_EQ(line["output_tokens"], 20);
    EXPECT_EQ(line["steps"], response.statistics().steps());
    EXPECT_GE(line["seconds"], 0.0);
    EXPECT_THAT(logged, Not(HasSubstr(text)));
    EXPECT_THAT(logged, Not(HasSubstr("abcabcab")));
    StartServer();
  }
}

TEST_F(GenerateServiceTest, ACallIsLoggedWithTheTraceOfItsClient) {
  const std::string trace = "4bf92f3577b34da6a3ce929d0e0e4736";
  const std::string good = "00-" + trace + "-00f067aa0ba902b7-01";
  for (const std::vector<std::string>& sent :
       {std::vector<std::string>{good}, {}, {"nonsense"}, {good, good}}) {
    testing::internal::CaptureStderr();
    log::SetUp("test", spdlog::level::info, log::Format::kJson);
    grpc::ClientContext context;
    for (const std::string& header : sent) context.AddMetadata("traceparent", header);
    auto stream = stub_->Generate(&context, Good());
    v1::GenerateResponse response;
    while (stream->Read(&response)) {
    }
    EXPECT_TRUE(stream->Finish().ok());
    server_->Shutdown(absl::Seconds(30));
    const auto line = nlohmann::json::parse(testing::internal::GetCapturedStderr());
    if (sent == std::vector<std::string>{good}) {
      EXPECT_EQ(line["trace_id"], trace);
      EXPECT_EQ(line["parent_span_id"], "00f067aa0ba902b7");
    } else {
      EXPECT_FALSE(line.contains("trace_id"));
    }
    StartServer();
  }
}

TEST_F(GenerateServiceTest, SampledCallsHaveASpan) {
  const std::string trace = "4bf92f3577b34da6a3ce929d0e0e4736";
  const std::string client = "00-" + trace + "-00f067aa0ba902b7-";
  for (const double sample : {0.0, 1.0}) {
    trace::testing::TraceFile file;
    service_ = std::make_unique<GenerateService>(*scheduler_, engine_, *reader_,
                                                 ServiceIdentity{"fake", "f", "1.2.3"}, nullptr,
                                                 RequestTracing{file.tracer(), sample});
    StartServer();
    v1::GenerateResponse response;
    const auto call = [&](const std::string& traceparent, const v1::GenerateRequest& request) {
      grpc::ClientContext context;
      if (!traceparent.empty()) context.AddMetadata("traceparent", traceparent);
      auto stream = stub_->Generate(&context, request);
      while (stream->Read(&response)) {
      }
      return stream->Finish().error_code();
    };
    v1::GenerateRequest request = Good();
    request.set_tenant("acme");
    request.set_request_id("mine");
    // The client decides, whatever the rate; without a trace of its own the rate does.
    EXPECT_EQ(call(client + "01", request), grpc::OK);
    const v1::GenerationStatistics statistics = response.statistics();
    EXPECT_EQ(call(client + "00", Good()), grpc::OK);
    EXPECT_EQ(call("", Good()), grpc::OK);
    EXPECT_EQ(call("nonsense", Good()), grpc::OK);
    request.set_top_logprobs(1000);
    EXPECT_EQ(call(client + "01", request), grpc::INVALID_ARGUMENT);
    server_->Shutdown(absl::Seconds(30));
    service_.reset();
    EXPECT_TRUE(scheduler_->WaitIdle(absl::Seconds(30)));

    const std::vector<nlohmann::json> spans = file.Spans();
    const auto roots = trace::testing::Named(spans, "strata.generate");
    ASSERT_EQ(roots.size(), sample > 0 ? 4u : 2u);
    EXPECT_EQ(roots[0]["traceId"], trace);
    EXPECT_EQ(roots[0]["parentSpanId"], "00f067aa0ba902b7");
    EXPECT_EQ(roots[0]["kind"], 2);
    auto attributes = trace::testing::AttributesOf(roots[0]);
    EXPECT_EQ(attributes["strata.request_id"], "mine");
    EXPECT_EQ(attributes["strata.tenant_hash"], TenantHash("acme"));
    EXPECT_EQ(attributes["rpc.grpc.status_code"], 0);
    EXPECT_EQ(attributes["strata.finish"], "length");
    EXPECT_EQ(attributes["strata.prompt_tokens"], statistics.prompt_tokens());
    EXPECT_EQ(attributes["strata.output_tokens"], statistics.output_tokens());
    EXPECT_EQ(attributes["strata.steps"], statistics.steps());
    EXPECT_EQ(attributes["strata.drafted"], statistics.drafted());
    EXPECT_EQ(attributes["strata.accepted"], statistics.accepted());
    // The others belong below one of them, and lie within it.
    for (const auto& step : trace::testing::Named(spans, "step")) {
      const auto root = std::find_if(roots.begin(), roots.end(), [&](const auto& candidate) {
        return candidate["spanId"] == step["parentSpanId"];
      });
      ASSERT_NE(root, roots.end());
      EXPECT_EQ((*root)["traceId"], step["traceId"]);
      EXPECT_LE(trace::testing::StartOf(*root), trace::testing::StartOf(step));
      EXPECT_LE(trace::testing::EndOf(step), trace::testing::EndOf(*root));
    }
    // What is wrong with a request is no fault of the service's.
    EXPECT_EQ(trace::testing::AttributesOf(roots.back())["rpc.grpc.status_code"], 3);
    EXPECT_FALSE(roots.back()["status"].contains("code"));
    if (sample > 0) {
      for (const size_t i : {1, 2}) {
        EXPECT_NE(roots[i]["traceId"], trace);
        EXPECT_FALSE(roots[i].contains("parentSpanId"));
        EXPECT_EQ(trace::testing::AttributesOf(roots[i])["strata.tenant_hash"], "none");
      }
    }
    EXPECT_THAT(nlohmann::json(spans).dump(), Not(HasSubstr("abcabc")));
    EXPECT_THAT(nlohmann::json(spans).dump(), Not(HasSubstr("acme")));
  }
}

TEST(RequestTracing, WithoutATracerASampledTraceGoesOn) {
  trace::Context client = {trace::NewTraceId(), trace::NewSpanId(), /*sampled=*/true};
  const trace::Scope scope = RequestTracing{nullptr, 1}.Begin(client);
  EXPECT_FALSE(scope.on());
  EXPECT_EQ(scope.context, client);
  client.sampled = false;
  EXPECT_EQ((RequestTracing{nullptr, 1}.Begin(client).context), trace::Context());
  EXPECT_EQ((RequestTracing{nullptr, 1}.Begin(std::nullopt).context), trace::Context());
}

TEST_F(GenerateServiceTest, ARefusedCallIsLoggedWithoutWhatItSaid) {
  testing::internal::CaptureStderr();
  log::SetUp("test", spdlog::level::info, log::Format::kJson);
  v1::GenerateRequest request = Good();
  request.set_tenant("secret" + std::string(200, 'x'));
  grpc::ClientContext context;
  auto stream = stub_->Generate(&context, request);
  EXPECT_EQ(stream->Finish().error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_EQ(context.GetServerInitialMetadata().count("x-request-id"), 1u);
  server_->Shutdown(absl::Seconds(30));
  const std::string logged = testing::internal::GetCapturedStderr();
  const auto line = nlohmann::json::parse(logged);
  EXPECT_EQ(line["outcome"], "INVALID_ARGUMENT");
  EXPECT_FALSE(line.contains("detail"));
  EXPECT_FALSE(line.contains("output_tokens"));
  EXPECT_THAT(logged, Not(HasSubstr("secret")));
}

TEST_F(GenerateServiceTest, DrainingRefusesNewRequests) {
  scheduler_->StopAdmission();
  EXPECT_EQ(Run(Good()).status.error_code(), grpc::UNAVAILABLE);
}

TEST_F(GenerateServiceTest, InfoAndTokenize) {
  grpc::ClientContext context;
  v1::GetModelInfoResponse info;
  ASSERT_TRUE(stub_->GetModelInfo(&context, {}, &info).ok());
  EXPECT_EQ(info.model_id(), "fake");
  EXPECT_EQ(info.vocab_size(), static_cast<uint32_t>(kFakeVocab));
  EXPECT_EQ(info.draft_mode(), "embedded");
  EXPECT_TRUE(info.draft_available());
  grpc::ClientContext tokenize_context;
  v1::TokenizeRequest request;
  v1::TokenizeResponse ids;
  EXPECT_EQ(stub_->Tokenize(&tokenize_context, request, &ids).error_code(), grpc::INVALID_ARGUMENT);
  grpc::ClientContext again;
  request.set_text("abc");
  ASSERT_TRUE(stub_->Tokenize(&again, request, &ids).ok());
  EXPECT_EQ(ids.ids_size(), 3);
}

}  // namespace
}  // namespace strata::verify
