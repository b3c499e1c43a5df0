// The service behind a gate, over a real loopback connection on the fake engine: who is let in, as
// whom, and how often.
#include "services/verify/server/request_gate.h"

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/rpc/bearer.h"
#include "common/rpc/server.h"
#include "common/rpc/status.h"
#include "services/draft/hierarchy/hierarchy_drafter.h"
#include "services/verify/drafting/embedded_draft_source.h"
#include "services/verify/server/generate_service.h"
#include "strata/v1/generate.grpc.pb.h"
#include "tests/verify/fake_engine.h"

namespace strata::verify {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// printf %s TOKEN | sha256sum of alice-token, bob-token, old-token and tight-token.
constexpr char kTokens[] = R"({"tokens": [
  {"sha256": "9c220f200955d76c0a38d308225e0ef10c5f971acaf2f8d1d8f732affa5bd1dc", "tenant": "alice"},
  {"sha256": "97dd3707015dcf069cf73022ed7173b1165db6eff24b441cb57fd069a8c4e525", "tenant": "bob"},
  {"sha256": "9bdf10a691a1cfda89d9ff66629d1609ab176cec9b6a3146a8929f28937a9fce", "tenant": "alice", "expires": "2020-01-01T00:00:00Z"},
  {"sha256": "0c42e0bcb1dd7592d493d612c9eb1f8bcb552ce3405691f809e0a8305862f276", "tenant": "tight",
   "quotas": {"concurrent_requests": 1, "requests_per_minute": 3, "tokens_per_minute": 60}}]})";

class RequestGateTest : public ::testing::Test {
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
    scheduler_ = std::make_unique<Scheduler>(options, engine_, tokenizer_, *std::move(source));
    reader_ = std::make_unique<RequestReader>(tokenizer_, nullptr, kFakeVocab,
                                              engine_.info().eos_token_ids, RequestLimits());
    auto tokens = auth::ReloadingTokens::Open(
        {.read = []() -> absl::StatusOr<std::string> { return kTokens; },
         .parse = [](const std::string& text) { return auth::TokenTable::Parse(text, {}); },
         .report = [](const absl::Status&) {}});
    ASSERT_TRUE(tokens.ok()) << tokens.status();
    gate_ = std::make_unique<RequestGate>(*std::move(tokens));
    service_ = std::make_unique<GenerateService>(*scheduler_, engine_, *reader_,
                                                 ServiceIdentity{"fake", "f", "1"}, gate_.get());
    const std::array<grpc::Service*, 1> services = {service_.get()};
    auto server = rpc::Server::Start({}, services);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    channel_ = grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials());
    stub_ = v1::GenerateService::NewStub(channel_);
  }

  static v1::GenerateRequest Request(const std::string& tenant = "") {
    v1::GenerateRequest request;
    request.set_text("abcabcab");
    request.set_max_tokens(20);
    request.set_ignore_eos(true);
    request.set_tenant(tenant);
    return request;
  }
  static void Prepare(grpc::ClientContext& context, const std::string& authorization) {
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    if (!authorization.empty()) context.AddMetadata("authorization", authorization);
  }

  struct Outcome {
    grpc::Status status;
    v1::GenerationStatistics statistics;
    // Of the trailing metadata.
    std::string retry_after;
  };
  Outcome Run(const v1::GenerateRequest& request, const std::string& authorization) {
    grpc::ClientContext context;
    Prepare(context, authorization);
    auto stream = stub_->Generate(&context, request);
    Outcome outcome;
    v1::GenerateResponse response;
    while (stream->Read(&response)) outcome.statistics = response.statistics();
    outcome.status = stream->Finish();
    const auto& trailing = context.GetServerTrailingMetadata();
    if (const auto it = trailing.find(rpc::kRetryAfterKey); it != trailing.end()) {
      outcome.retry_after = std::string(it->second.data(), it->second.size());
    }
    return outcome;
  }

  // Sends an empty message to any method, and returns what the call ends with.
  grpc::Status CallAny(const std::string& path, const std::string& authorization) {
    grpc::GenericStub generic(channel_);
    grpc::ClientContext context;
    Prepare(context, authorization);
    grpc::CompletionQueue queue;
    const auto wait = [&queue] {
      void* tag;
      bool ok = false;
      return queue.Next(&tag, &ok) && ok;
    };
    const auto call = generic.PrepareCall(&context, path, &queue);
    call->StartCall(nullptr);
    wait();
    const grpc::Slice empty;
    call->WriteLast(grpc::ByteBuffer(&empty, 1), grpc::WriteOptions(), nullptr);
    wait();
    grpc::ByteBuffer answer;
    do {
      call->Read(&answer, nullptr);
    } while (wait());
    grpc::Status status;
    call->Finish(&status, nullptr);
    wait();
    return status;
  }

  FakeEngine engine_;
  FakeTokenizer tokenizer_;
  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<RequestReader> reader_;
  std::unique_ptr<RequestGate> gate_;
  std::unique_ptr<GenerateService> service_;
  std::unique_ptr<rpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::GenerateService::Stub> stub_;
};

// A method that is added to the service and forgets the gate fails here.
TEST_F(RequestGateTest, EveryMethodWantsAToken) {
  const google::protobuf::ServiceDescriptor* service =
      v1::GenerateRequest::descriptor()->file()->FindServiceByName("GenerateService");
  ASSERT_NE(service, nullptr);
  ASSERT_GE(service->method_count(), 3);
  for (int i = 0; i < service->method_count(); ++i) {
    const std::string path =
        absl::StrCat("/", service->full_name(), "/", service->method(i)->name());
    EXPECT_EQ(CallAny(path, "").error_code(), grpc::UNAUTHENTICATED) << path;
    EXPECT_EQ(CallAny(path, "Bearer nonsense").error_code(), grpc::UNAUTHENTICATED) << path;
    EXPECT_EQ(CallAny(path, "Bearer old-token").error_code(), grpc::UNAUTHENTICATED) << path;
    const grpc::StatusCode let_in = CallAny(path, "Bearer alice-token").error_code();
    EXPECT_TRUE(let_in == grpc::OK || let_in == grpc::INVALID_ARGUMENT) << path << " " << let_in;
  }
  EXPECT_EQ(CallAny("/grpc.health.v1.Health/Check", "").error_code(), grpc::OK);
}

TEST_F(RequestGateTest, OnlyGoodTokensAreLetInAndNoneIsRepeated) {
  EXPECT_TRUE(Run(Request(), "Bearer alice-token").status.ok());
  EXPECT_TRUE(Run(Request(), "bearer alice-token").status.ok());
  for (const auto& [authorization, says] :
       std::initializer_list<std::pair<std::string, std::string>>{
           {"", "no token"},
           {"Bearer old-token", "expired"},
           {"Bearer alice-toke", "not accepted"},
           {"Bearer ", "not accepted"},
           {"Bearer  alice-token", "not accepted"},
           {"Basic alice-token", "not accepted"},
           {"alice-token", "not accepted"},
           {"Bearer " + std::string(4000, 'x'), "not accepted"}}) {
    const grpc::Status status = Run(Request(), authorization).status;
    EXPECT_EQ(status.error_code(), grpc::UNAUTHENTICATED) << authorization;
    EXPECT_THAT(status.error_message(), AllOf(HasSubstr(says), Not(HasSubstr("alice"))))
        << authorization;
  }
  grpc::ClientContext context;
  Prepare(context, "Bearer alice-token");
  context.AddMetadata("authorization", "Bearer bob-token");
  v1::GetModelInfoResponse info;
  EXPECT_EQ(stub_->GetModelInfo(&context, {}, &info).error_code(), grpc::UNAUTHENTICATED)
      << "two tokens";
}

TEST_F(RequestGateTest, TheTenantIsTheTokens) {
  EXPECT_TRUE(Run(Request("alice"), "Bearer alice-token").status.ok());
  const grpc::Status foreign = Run(Request("bob"), "Bearer alice-token").status;
  EXPECT_EQ(foreign.error_code(), grpc::PERMISSION_DENIED);
  EXPECT_THAT(foreign.error_message(), AllOf(Not(HasSubstr("alice")), Not(HasSubstr("bob"))));
  // What alice's prompt computed serves alice, and bob's is not taken for the same.
  v1::GenerateRequest request = Request();
  request.set_text(std::string(400, 'a'));
  EXPECT_EQ(Run(request, "Bearer alice-token").statistics.cached_prompt_tokens(), 0u);
  EXPECT_EQ(Run(request, "Bearer bob-token").statistics.cached_prompt_tokens(), 0u);
  EXPECT_GT(Run(request, "Bearer alice-token").statistics.cached_prompt_tokens(), 0u);
}

TEST_F(RequestGateTest, QuotasSayWhatHowMuchAndWhen) {
  const std::string tight = "Bearer tight-token";
  v1::GenerateRequest large = Request();
  large.set_max_tokens(53);
  const Outcome never = Run(large, tight);
  EXPECT_EQ(never.status.error_code(), grpc::OUT_OF_RANGE);
  EXPECT_THAT(never.status.error_message(), HasSubstr("61 tokens, more than the 60"));
  EXPECT_EQ(never.retry_after, "");
  EXPECT_TRUE(Run(Request(), tight).status.ok());
  large.set_max_tokens(50);
  const Outcome tokens = Run(large, tight);
  EXPECT_EQ(tokens.status.error_code(), grpc::RESOURCE_EXHAUSTED);
  EXPECT_THAT(tokens.status.error_message(), HasSubstr("60 tokens a minute"));
  EXPECT_GT(std::stoi("0" + tokens.retry_after), 0);
  const Outcome requests = Run(Request(), tight);
  EXPECT_EQ(requests.status.error_code(), grpc::RESOURCE_EXHAUSTED);
  EXPECT_THAT(requests.status.error_message(), HasSubstr("3 requests a minute"));
  EXPECT_GT(std::stoi("0" + requests.retry_after), 0);
  EXPECT_TRUE(Run(Request(), "Bearer alice-token").status.ok()) << "another tenant";
  EXPECT_EQ(service_->counters().quota_refusals.value(), 2);
}

}  // namespace
}  // namespace strata::verify
