// The draft service as a network sees it: any bytes in any method, over a real connection.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/trace/tracer.h"
#include "services/draft/hierarchy/hierarchy_drafter.h"
#include "services/draft/server/draft_service.h"
#include "strata/v1/draft.grpc.pb.h"
#include "tests/fuzz/rpc_fuzz.h"

namespace strata::draft {
namespace {

constexpr int64_t kVocab = 50;
const std::vector<std::string> kMethods = {"/strata.v1.DraftService/DraftStream",
                                           "/strata.v1.DraftService/DraftOnce",
                                           "/strata.v1.DraftService/GetDraftInfo"};

v1::Handshake GoodHandshake() {
  v1::Handshake handshake;
  handshake.set_verifier_id("verifier");
  handshake.set_model_id("model");
  handshake.set_tokenizer_fingerprint("f");
  handshake.set_vocab_size(kVocab);
  return handshake;
}

// A stream that asks for a draft, and gets it.
void CheckHealth(const std::shared_ptr<grpc::Channel>& channel) {
  const auto stub = v1::DraftService::NewStub(channel);
  grpc::ClientContext context;
  const auto stream = stub->DraftStream(&context);
  v1::DraftRequest request;
  *request.mutable_handshake() = GoodHandshake();
  v1::SequenceRequest& sequence = *request.add_sequences();
  sequence.set_sequence_id(1);
  sequence.set_prompt_length(3);
  sequence.set_node_budget(8);
  for (const uint32_t token : {1, 2, 3, 1, 2}) sequence.add_tokens(token);
  FUZZ_CHECK(stream->Write(request));
  v1::DraftResponse response;
  FUZZ_CHECK(stream->Read(&response));
  FUZZ_CHECK(response.answers_size() == 1);
  FUZZ_CHECK(response.answers(0).status() == v1::SEQUENCE_STATUS_OK);
  FUZZ_CHECK(response.answers(0).tree().tokens_size() > 0);
  stream->WritesDone();
  FUZZ_CHECK(stream->Finish().ok());
}

fuzz::RpcFuzzer& Fuzzer() {
  static fuzz::RpcFuzzer* const fuzzer = [] {
    DrafterOptions options;
    ModelStoreOptions store_options;
    store_options.max_bytes = 1 << 20;
    std::vector<std::string> warnings;
    options.model_store = *ModelStore::Open(store_options, &warnings);
    options.limits.max_sequences = 32;
    options.limits.max_live_tokens = 4000;
    options.limits.max_sequence_tokens = 1500;
    options.limits.idle_before_eviction = absl::ZeroDuration();
    auto drafter = NewDrafter(std::move(options));
    FUZZ_CHECK(drafter.ok());
    static const std::unique_ptr<Drafter> kept = *std::move(drafter);
    auto tracer =
        trace::Tracer::Start({.file = fuzz::ScratchFolder() + "/spans"}, {"strata-draft", "fuzz"});
    FUZZ_CHECK(tracer.ok());
    static const std::unique_ptr<trace::Tracer> spans = *std::move(tracer);
    static DraftService* const service = new DraftService(kept.get(), "", "fuzz", spans.get());
    return new fuzz::RpcFuzzer(
        service, {.methods = kMethods,
                  .allowed = {grpc::OK, grpc::INVALID_ARGUMENT, grpc::FAILED_PRECONDITION,
                              grpc::RESOURCE_EXHAUSTED, grpc::UNIMPLEMENTED},
                  .authorization = "",
                  .check_health = &CheckHealth});
  }();
  return *fuzzer;
}

std::vector<std::string> Seeds() {
  v1::DraftRequest first;
  *first.mutable_handshake() = GoodHandshake();
  first.set_step(1);
  v1::SequenceRequest& sequence = *first.add_sequences();
  sequence.set_sequence_id(7);
  sequence.set_prompt_length(4);
  sequence.set_node_budget(16);
  sequence.set_tenant("t");
  sequence.set_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
  for (const uint32_t token : {1, 2, 3, 1, 2, 3}) sequence.add_tokens(token);
  sequence.add_predicted_tokens(2);
  v1::DraftRequest second;
  second.set_step(2);
  v1::SequenceRequest& more = *second.add_sequences();
  more.set_sequence_id(7);
  more.set_position(6);
  more.add_tokens(1);
  more.set_node_budget(16);
  more.set_has_feedback(true);
  more.add_accepted_nodes(0);
  v1::RowRanking& ranking = *more.add_rankings();
  ranking.set_previous_token(1);
  ranking.set_token(2);
  ranking.add_next_tokens(3);
  v1::DraftRequest last;
  last.set_step(3);
  last.add_sequences()->set_sequence_id(7);
  last.mutable_sequences(0)->set_position(7);
  last.mutable_sequences(0)->set_close(true);
  v1::DraftOnceRequest once;
  *once.mutable_handshake() = GoodHandshake();
  for (const uint32_t token : {1, 2, 3, 1, 2}) once.add_tokens(token);
  once.set_node_budget(16);
  const size_t methods = kMethods.size();
  return {fuzz::RpcFuzzer::Seed(
              0, methods,
              {first.SerializeAsString(), second.SerializeAsString(), last.SerializeAsString()}),
          fuzz::RpcFuzzer::Seed(1, methods, {once.SerializeAsString()}),
          fuzz::RpcFuzzer::Seed(2, methods, {""})};
}

}  // namespace
}  // namespace strata::draft

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  strata::fuzz::WriteSeeds(*argc, *argv, strata::draft::Seeds());
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  FuzzedDataProvider data(bytes, size);
  strata::draft::Fuzzer().Run(data);
  return 0;
}
