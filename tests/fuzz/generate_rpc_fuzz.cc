// The verify service as a network sees it: any bytes in any method, over a real connection, with a
// token or what is none. The model is a made-up one; the rest is what serves.

#include <spdlog/spdlog.h>

#include <cstdint>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/tokenizer/chat_template.h"
#include "common/trace/tracer.h"
#include "services/draft/hierarchy/hierarchy_drafter.h"
#include "services/verify/drafting/embedded_draft_source.h"
#include "services/verify/scheduler/scheduler.h"
#include "services/verify/server/generate_service.h"
#include "services/verify/server/request_gate.h"
#include "services/verify/server/request_reader.h"
#include "strata/v1/generate.grpc.pb.h"
#include "tests/fuzz/rpc_fuzz.h"
#include "tests/verify/fake_engine.h"

// In engine.cc, with LibTorch.
const char* strata::engine::DTypeName(DType) { return "fp32"; }

namespace strata::verify {
namespace {

const std::vector<std::string> kMethods = {"/strata.v1.GenerateService/Generate",
                                           "/strata.v1.GenerateService/Tokenize",
                                           "/strata.v1.GenerateService/GetModelInfo"};

// What clients show, and what the service knows of it: printf %s token | sha256sum.
constexpr char kAuthorization[] = "Bearer token";
constexpr char kTokens[] = R"({"tokens": [
  {"sha256": "3c469e9d6c5875d37a43f353d4f88e61fcf812c66eee3457465a40b0da4153e0", "tenant": "t"}]})";

struct Parts {
  FakeEngine engine = FakeEngine(/*pages=*/256, /*max_sequence_length=*/512);
  FakeTokenizer tokenizer;
  std::unique_ptr<Scheduler> scheduler;
  std::unique_ptr<RequestReader> reader;
  std::unique_ptr<ChatTemplate> chat_template;
  std::unique_ptr<trace::Tracer> tracer;
  std::unique_ptr<RequestGate> gate;
  std::unique_ptr<GenerateService> service;
};

GenerateService* NewService() {
  // Lives as long as the process.
  auto* parts = new Parts;
  auto drafter = draft::NewDrafter({});
  FUZZ_CHECK(drafter.ok());
  auto source = NewEmbeddedDraftSource(std::shared_ptr<draft::Drafter>(*std::move(drafter)),
                                       {"fuzz", "fake", parts->tokenizer.fingerprint(), kFakeVocab},
                                       absl::Seconds(5));
  FUZZ_CHECK(source.ok());
  SchedulerOptions options;
  options.measured_budget = false;
  parts->scheduler =
      std::make_unique<Scheduler>(options, parts->engine, parts->tokenizer, *std::move(source));
  RequestLimits limits;
  limits.max_predicted_tokens = 100;
  std::ofstream(fuzz::ScratchFolder() + "/chat_template.jinja")
      << "{% for message in messages %}{{ message['role'] + ':' + message['content'] }}{% endfor "
         "%}";
  auto chat_template = ChatTemplate::Load(fuzz::ScratchFolder());
  FUZZ_CHECK(chat_template.ok());
  parts->chat_template = *std::move(chat_template);
  parts->reader =
      std::make_unique<RequestReader>(parts->tokenizer, parts->chat_template.get(), kFakeVocab,
                                      parts->engine.info().eos_token_ids, limits);
  auto tracer =
      trace::Tracer::Start({.file = fuzz::ScratchFolder() + "/spans"}, {"strata-verify", "fuzz"});
  FUZZ_CHECK(tracer.ok());
  parts->tracer = *std::move(tracer);
  auto tokens = auth::ReloadingTokens::Open(
      {.read = []() -> absl::StatusOr<std::string> { return kTokens; },
       .parse = [](const std::string& text) { return auth::TokenTable::Parse(text, {}); },
       .report = [](const absl::Status&) {}});
  FUZZ_CHECK(tokens.ok());
  parts->gate = std::make_unique<RequestGate>(*std::move(tokens));
  parts->service = std::make_unique<GenerateService>(
      *parts->scheduler, parts->engine, *parts->reader, ServiceIdentity{"fake", "f", "1"},
      parts->gate.get(), RequestTracing{parts->tracer.get(), 0.5});
  return parts->service.get();
}

v1::GenerateRequest GoodRequest() {
  v1::GenerateRequest request;
  request.set_text("abcabcab");
  request.set_max_tokens(6);
  request.set_ignore_eos(true);
  return request;
}

// The same tokens as ever, whatever was asked before.
void CheckHealth(const std::shared_ptr<grpc::Channel>& channel) {
  static std::vector<uint32_t>* const expected = new std::vector<uint32_t>;
  const auto stub = v1::GenerateService::NewStub(channel);
  grpc::ClientContext context;
  context.AddMetadata("authorization", kAuthorization);
  const auto stream = stub->Generate(&context, GoodRequest());
  v1::GenerateResponse response;
  std::vector<uint32_t> tokens;
  while (stream->Read(&response)) {
    tokens.insert(tokens.end(), response.token_ids().begin(), response.token_ids().end());
  }
  FUZZ_CHECK(stream->Finish().ok());
  FUZZ_CHECK(tokens.size() == 6);
  if (expected->empty()) *expected = tokens;
  FUZZ_CHECK(tokens == *expected);
}

fuzz::RpcFuzzer& Fuzzer() {
  static fuzz::RpcFuzzer* const fuzzer = new fuzz::RpcFuzzer(
      NewService(), {.methods = kMethods,
                     .allowed = {grpc::OK, grpc::INVALID_ARGUMENT, grpc::FAILED_PRECONDITION,
                                 grpc::OUT_OF_RANGE, grpc::RESOURCE_EXHAUSTED, grpc::UNIMPLEMENTED,
                                 grpc::UNAUTHENTICATED, grpc::PERMISSION_DENIED},
                     .authorization = kAuthorization,
                     .check_health = &CheckHealth});
  return *fuzzer;
}

std::vector<std::string> Seeds() {
  v1::GenerateRequest request = GoodRequest();
  request.set_tenant("t");
  request.set_request_id("r");
  request.add_stop("zz");
  request.add_stop_token_ids(9);
  request.set_top_logprobs(3);
  request.set_logprobs(true);
  v1::SamplingParameters& sampling = *request.mutable_sampling();
  sampling.set_temperature(0.8f);
  sampling.set_top_k(5);
  sampling.set_seed(1);
  v1::SpeculationParameters& speculation = *request.mutable_speculation();
  speculation.set_max_nodes(4);
  v1::GenerateRequest by_ids;
  for (const uint32_t id : {1, 2, 3}) by_ids.mutable_tokens()->add_ids(id);
  by_ids.set_max_tokens(3);
  v1::GenerateRequest chat;
  v1::ChatMessage& message = *chat.mutable_chat()->add_messages();
  message.set_role("user");
  message.set_content("hello");
  v1::TokenizeRequest tokenize;
  tokenize.set_text("hello");
  const size_t methods = kMethods.size();
  std::vector<std::string> seeds;
  for (const auto& generate : {request, by_ids, chat}) {
    seeds.push_back(fuzz::RpcFuzzer::Seed(0, methods, {generate.SerializeAsString()}));
  }
  seeds.push_back(fuzz::RpcFuzzer::Seed(1, methods, {tokenize.SerializeAsString()}));
  seeds.push_back(fuzz::RpcFuzzer::Seed(2, methods, {""}));
  return seeds;
}

}  // namespace
}  // namespace strata::verify

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  spdlog::set_level(spdlog::level::off);
  strata::fuzz::WriteSeeds(*argc, *argv, strata::verify::Seeds());
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  FuzzedDataProvider data(bytes, size);
  strata::verify::Fuzzer().Run(data);
  return 0;
}
