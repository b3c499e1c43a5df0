#include "services/verify/server/generate_service.h"

#include <grpcpp/server_context.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <optional>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "common/base/steady_clock.h"
#include "common/rpc/client_trace.h"
#include "common/rpc/request_id.h"
#include "common/rpc/status.h"
#include "services/verify/server/stream_sink.h"

namespace strata::verify {
namespace {

constexpr char kGenerate[] = "/strata.v1.GenerateService/Generate";
constexpr char kGetModelInfo[] = "/strata.v1.GenerateService/GetModelInfo";
constexpr char kTokenize[] = "/strata.v1.GenerateService/Tokenize";

// How soon a cancelled call is noticed while the scheduler has nothing for it.
constexpr absl::Duration kCancelPoll = absl::Milliseconds(50);

void FillLogprob(const engine::TokenLogprob& from, v1::TokenLogprob& to) {
  to.set_id(from.id);
  to.set_logprob(from.logprob);
}

void FillChunk(const GenerationChunk& chunk, v1::GenerateResponse& response) {
  for (TokenId token : chunk.tokens) response.add_token_ids(token);
  response.set_text(chunk.text);
  for (const OutputLogprob& logprob : chunk.logprobs) {
    v1::TokenLogprob& to = *response.add_logprobs();
    FillLogprob(logprob.token, to);
    for (const engine::TokenLogprob& other : logprob.top) FillLogprob(other, *to.add_top());
  }
}

void FillStatistics(const GenerationStats& from, uint64_t seed, v1::GenerationStatistics& to) {
  to.set_prompt_tokens(from.prompt_tokens);
  to.set_output_tokens(from.output_tokens);
  to.set_steps(from.steps);
  to.set_drafted(from.drafted);
  to.set_accepted(from.accepted);
  to.mutable_drafted_by_position()->Add(from.drafted_by_position.begin(),
                                        from.drafted_by_position.end());
  to.mutable_accepted_by_position()->Add(from.accepted_by_position.begin(),
                                         from.accepted_by_position.end());
  // Also what is of no tier that this service knows, as another version's may be.
  for (int tier = 0; tier < kTierKinds; ++tier) {
    if (from.drafted_by_tier[tier] == 0) continue;
    v1::TierCount& count = *to.add_by_tier();
    count.set_tier(static_cast<v1::Tier>(tier));
    count.set_drafted(from.drafted_by_tier[tier]);
    count.set_accepted(from.accepted_by_tier[tier]);
  }
  to.set_prefill_seconds(absl::ToDoubleSeconds(from.prefill_time));
  to.set_draft_seconds(absl::ToDoubleSeconds(from.draft_time));
  to.set_verify_seconds(absl::ToDoubleSeconds(from.verify_time));
  to.set_total_seconds(absl::ToDoubleSeconds(from.total_time));
  to.set_draft_misses(from.draft_misses);
  to.set_seed(seed);
  to.set_preemptions(from.preemptions);
  to.set_cached_prompt_tokens(from.cached_prompt_tokens);
}

v1::FinishReason ToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kEos:
      return v1::FINISH_REASON_EOS;
    case FinishReason::kStop:
      return v1::FINISH_REASON_STOP;
    case FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case FinishReason::kNone:
      break;
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

// Most tokens that the request may come to, prompt and output.
uint64_t MostTokens(const GenerationRequest& request, const engine::EngineInfo& info) {
  const auto prompt = static_cast<int64_t>(request.prompt.size());
  const int64_t room = std::max<int64_t>(0, info.max_sequence_length - prompt);
  return static_cast<uint64_t>(prompt + std::min(room, request.max_tokens));
}

}  // namespace

GenerateService::GenerateService(Scheduler& scheduler, const engine::Engine& engine,
                                 const RequestReader& reader, ServiceIdentity identity,
                                 RequestGate* gate, const RequestTracing& tracing)
    : scheduler_(scheduler),
      engine_(engine),
      reader_(reader),
      identity_(std::move(identity)),
      gate_(gate),
      tracing_(tracing) {
  AddServerStreaming(kGenerate, this, &GenerateService::ServeGenerate);
  AddUnary(kGetModelInfo, this, &GenerateService::GetModelInfo);
  AddUnary(kTokenize, this, &GenerateService::Tokenize);
}

grpc::Status GenerateService::ServeGenerate(grpc::ServerContext* context,
                                            const grpc::ByteBuffer* bytes,
                                            grpc::ServerWriter<v1::GenerateResponse>* writer) {
  RequestRecord record(counters_, SteadyNow());
  grpc::Status status;
  try {
    v1::GenerateRequest request;
    status = rpc::ParseRequest(*bytes, request);
    record.set_id(rpc::TakeRequestId(*context, request.request_id()));
    const auto client = rpc::ClientTrace(*context);
    record.set_trace(client, tracing_.Begin(client));
    if (status.ok()) status = Answer(*context, request, *writer, record);
  } catch (const std::exception& error) {
    // Out of memory and the like must not take the service down.
    status = rpc::ToGrpcStatus(absl::InternalError(error.what()));
  }
  // Without any request its client has left, as a rule, though gRPC does not know it yet: to count
  // that as a mistake would tell of many that nobody made.
  record.End(bytes->Valid() ? status : grpc::Status::CANCELLED);
  return status;
}

grpc::Status GenerateService::Answer(grpc::ServerContext& context,
                                     const v1::GenerateRequest& request,
                                     grpc::ServerWriter<v1::GenerateResponse>& writer,
                                     RequestRecord& record) {
  std::optional<RequestGate::Pass> pass;
  if (gate_ != nullptr) {
    auto admitted = gate_->Admit(context, request.tenant());
    if (!admitted.ok()) return Refuse(admitted.status(), context);
    pass.emplace(*std::move(admitted));
  }
  auto read = reader_.Read(request);
  if (!read.ok()) return rpc::ToGrpcStatus(read.status());
  if (pass) {
    read->tenant = pass->tenant;
    absl::Status status = pass->quota.TakeTokens(MostTokens(*read, engine_.info()));
    if (!status.ok()) return Refuse(status, context);
  }
  record.set_tenant(read->tenant);
  read->trace = record.scope();
  const uint64_t seed = read->sampling.seed;
  auto sink = std::make_shared<StreamSink>();
  if (absl::Status status = scheduler_.Submit(*std::move(read), sink); !status.ok()) {
    return rpc::ToGrpcStatus(status, context);
  }
  // However this call ends, nobody generates for it afterwards.
  const absl::Cleanup cancel = [&sink] { sink->Cancel(); };
  std::optional<StreamSink::End> end;
  while (!end) {
    std::deque<GenerationChunk> chunks = sink->Take(kCancelPoll, &end);
    if (context.IsCancelled()) sink->Cancel();
    if (!chunks.empty()) record.OnTokens();
    v1::GenerateResponse response;
    for (const GenerationChunk& chunk : chunks) {
      response.Clear();
      FillChunk(chunk, response);
      if (!sink->cancelled() && !writer.Write(response)) sink->Cancel();
    }
  }
  if (pass) pass->quota.SetUsedTokens(end->stats.prompt_tokens + end->stats.output_tokens);
  if (end->status.ok()) {
    v1::GenerateResponse last;
    last.set_finish_reason(ToProto(end->reason));
    FillStatistics(end->stats, seed, *last.mutable_statistics());
    if (sink->cancelled() || !writer.Write(last)) {
      end->status = absl::CancelledError("the client did not take the answer");
    }
  }
  record.set_stats(std::move(end->stats), end->reason);
  return rpc::ToGrpcStatus(end->status);
}

grpc::Status GenerateService::Refuse(const absl::Status& why, grpc::ServerContext& context) {
  if (absl::IsResourceExhausted(why)) counters_.quota_refusals.Add(1);
  return rpc::ToGrpcStatus(why, context);
}

grpc::Status GenerateService::GetModelInfo(grpc::ServerContext* context,
                                           const v1::GetModelInfoRequest*,
                                           v1::GetModelInfoResponse* response) {
  if (gate_ != nullptr) {
    if (auto status = gate_->Identify(*context); !status.ok()) return rpc::ToGrpcStatus(status);
  }
  const engine::EngineInfo& info = engine_.info();
  response->set_model_id(identity_.model_id);
  response->set_architecture(info.architecture);
  response->set_vocab_size(static_cast<uint32_t>(info.vocab_size));
  response->set_max_sequence_length(static_cast<uint32_t>(info.max_sequence_length));
  response->set_dtype(engine::DTypeName(info.dtype));
  response->set_weights(info.int8_weights ? "int8" : "native");
  response->set_device(info.device);
  response->set_tokenizer_fingerprint(identity_.tokenizer_fingerprint);
  response->set_exact(info.exact);
  for (const std::string& note : info.exactness_notes) response->add_exactness_notes(note);
  for (int32_t id : info.eos_token_ids) response->add_eos_token_ids(id);
  response->set_kv_pages_total(static_cast<uint32_t>(info.kv_pages_total));
  const int64_t kept = engine_.kv_pages_kept();
  response->set_kv_pages_free(static_cast<uint32_t>(engine_.kv_pages_free() + kept));
  response->set_kv_pages_kept(static_cast<uint32_t>(kept));
  response->set_kv_page_tokens(info.kv_page_tokens);
  response->set_draft_mode(scheduler_.draft_source().mode());
  response->set_draft_available(scheduler_.draft_source().available());
  response->set_version(identity_.version);
  response->set_max_batch(scheduler_.options().max_batch);
  return grpc::Status::OK;
}

grpc::Status GenerateService::Tokenize(grpc::ServerContext* context,
                                       const v1::TokenizeRequest* request,
                                       v1::TokenizeResponse* response) {
  try {
    std::optional<RequestGate::Pass> pass;
    if (gate_ != nullptr) {
      auto admitted = gate_->Admit(*context, "");
      if (!admitted.ok()) return rpc::ToGrpcStatus(admitted.status(), *context);
      pass.emplace(*std::move(admitted));
    }
    auto ids = reader_.Tokenize(*request);
    if (!ids.ok()) return rpc::ToGrpcStatus(ids.status());
    for (TokenId id : *ids) response->add_ids(id);
    return grpc::Status::OK;
  } catch (const std::exception& error) {
    return rpc::ToGrpcStatus(absl::InternalError(error.what()));
  }
}

}  // namespace strata::verify
