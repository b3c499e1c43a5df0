// Requests of clients: any bytes as a strata.v1.GenerateRequest or TokenizeRequest, and texts and
// chats of any bytes, read with the tokenizer and chat template of a real model folder
// (STRATA_TEST_MODEL). What comes out is what the scheduler was promised, or INVALID_ARGUMENT.

#include <fuzzer/FuzzedDataProvider.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/tokenizer/chat_template.h"
#include "common/tokenizer/tokenizer.h"
#include "services/verify/server/request_reader.h"
#include "strata/v1/generate.pb.h"
#include "tests/fuzz/fuzz_check.h"
#include "tests/fuzz/fuzz_seed.h"

namespace strata::verify {
namespace {

constexpr size_t kMaxPredicted = 100;

enum Kind : uint8_t { kMessage = 0, kTokenize = 1, kText = 2, kChat = 3 };

struct Model {
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<ChatTemplate> chat_template;
  std::unique_ptr<RequestReader> reader;
};

// The process ends without it: that is no finding, but nothing can be done either.
Model LoadModel() {
  const char* folder = std::getenv("STRATA_TEST_MODEL");
  if (folder == nullptr || *folder == '\0') {
    std::fprintf(stderr, "STRATA_TEST_MODEL must name a model folder with a chat template\n");
    std::exit(2);
  }
  auto tokenizer = Tokenizer::Load(folder);
  auto chat_template = ChatTemplate::Load(folder);
  for (const absl::Status& status : {tokenizer.status(), chat_template.status()}) {
    if (status.ok()) continue;
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    std::exit(2);
  }
  Model model = {*std::move(tokenizer), *std::move(chat_template), nullptr};
  RequestLimits limits;
  limits.max_predicted_tokens = kMaxPredicted;
  model.reader = std::make_unique<RequestReader>(*model.tokenizer, model.chat_template.get(),
                                                 model.tokenizer->vocab_size(),
                                                 std::vector<int32_t>{2}, limits);
  return model;
}

const Model& TheModel() {
  static const Model* const model = new Model(LoadModel());
  return *model;
}

void CheckIds(const std::vector<TokenId>& ids) {
  for (const TokenId id : ids) FUZZ_CHECK(id >= 0 && id < TheModel().tokenizer->vocab_size());
}

void CheckError(const absl::Status& status) {
  FUZZ_CHECK(absl::IsInvalidArgument(status));
  FUZZ_CHECK(!status.message().empty());
}

// One id after another gives the text of all.
void CheckStream(const std::vector<TokenId>& ids) {
  const Tokenizer& tokenizer = *TheModel().tokenizer;
  for (const bool skip_special : {false, true}) {
    const auto stream = tokenizer.NewStream(skip_special);
    std::string text;
    for (const TokenId id : ids) text += stream->Push(id);
    text += stream->Finish();
    FUZZ_CHECK(text == tokenizer.Decode(ids, skip_special));
  }
}

void Read(const v1::GenerateRequest& request) {
  const auto read = TheModel().reader->Read(request);
  if (!read.ok()) return CheckError(read.status());
  FUZZ_CHECK(!read->prompt.empty());
  CheckIds(read->prompt);
  CheckIds(read->predicted);
  CheckIds(read->final_tokens);
  FUZZ_CHECK(read->predicted.size() <= kMaxPredicted);
  FUZZ_CHECK(read->max_tokens >= 1);
  FUZZ_CHECK(read->stop.size() <= 16);
  for (const std::string& stop : read->stop) FUZZ_CHECK(!stop.empty() && stop.size() <= 256);
  FUZZ_CHECK(read->top_logprobs >= 0 && read->top_logprobs <= 20);
  FUZZ_CHECK(!read->max_nodes.has_value() || *read->max_nodes <= RequestLimits().max_draft_nodes);
  FUZZ_CHECK(read->tenant.size() <= 128);
  FUZZ_CHECK(engine::ValidateSamplingParams(read->sampling).ok());
  CheckStream(read->prompt);
}

void Tokenize(const v1::TokenizeRequest& request) {
  const auto ids = TheModel().reader->Tokenize(request);
  if (!ids.ok()) return CheckError(ids.status());
  CheckIds(*ids);
  CheckStream(*ids);
}

v1::GenerateRequest Good() {
  v1::GenerateRequest request;
  request.set_text("Hello, <|im_start|>w\xc3\xb6rld\n\n  42");
  request.mutable_sampling()->set_temperature(0.8f);
  request.mutable_sampling()->set_top_p(0.9f);
  request.add_stop("\n\n");
  request.add_stop_token_ids(5);
  request.mutable_speculation()->set_max_nodes(8);
  request.mutable_speculation()->set_predicted_text("def f(x):");
  request.set_top_logprobs(3);
  return request;
}

std::vector<std::string> Seeds() {
  using strata::fuzz::SeedWriter;
  v1::GenerateRequest chat = Good();
  v1::ChatMessage& message = *chat.mutable_chat()->add_messages();
  message.set_role("user");
  message.set_content("Why?");
  v1::GenerateRequest tokens = Good();
  for (const uint32_t id : {1, 2, 3}) tokens.mutable_tokens()->add_ids(id);
  v1::TokenizeRequest tokenize;
  tokenize.set_text("a b");
  return {
      SeedWriter().Byte(kMessage).Bytes(Good().SerializeAsString()).Finish(),
      SeedWriter().Byte(kMessage).Bytes(chat.SerializeAsString()).Finish(),
      SeedWriter().Byte(kMessage).Bytes(tokens.SerializeAsString()).Finish(),
      SeedWriter().Byte(kTokenize).Bytes(tokenize.SerializeAsString()).Finish(),
      SeedWriter().Byte(kText).Bytes(Good().text()).Finish(),
      SeedWriter().Byte(kChat).Text("system").Text("Be brief.").Text("user").Text("Why?").Finish()};
}

}  // namespace
}  // namespace strata::verify

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  strata::verify::TheModel();
  strata::fuzz::WriteSeeds(*argc, *argv, strata::verify::Seeds());
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace strata::verify;
  FuzzedDataProvider data(bytes, size);
  strata::v1::GenerateRequest generate;
  strata::v1::TokenizeRequest tokenize;
  switch (data.ConsumeIntegral<uint8_t>() % 4) {
    case kMessage:
      if (generate.ParseFromString(data.ConsumeRemainingBytesAsString())) Read(generate);
      break;
    case kTokenize:
      if (tokenize.ParseFromString(data.ConsumeRemainingBytesAsString())) Tokenize(tokenize);
      break;
    case kText:
      // Not by way of the wire, where a string must be UTF-8.
      tokenize.set_text(data.ConsumeRemainingBytesAsString());
      Tokenize(tokenize);
      break;
    default:
      while (data.remaining_bytes() > 0) {
        strata::v1::ChatMessage& message = *generate.mutable_chat()->add_messages();
        message.set_role(data.ConsumeRandomLengthString());
        message.set_content(data.ConsumeRandomLengthString());
      }
      Read(generate);
  }
  return 0;
}
