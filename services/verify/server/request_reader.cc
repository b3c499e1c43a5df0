#include "services/verify/server/request_reader.h"

#include <limits>
#include <random>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "services/draft/hierarchy/request_checks.h"
#include "services/verify/engine/sampling.h"
#include "services/verify/server/engine_status.h"

namespace strata::verify {
namespace {

constexpr size_t kMaxNameBytes = 128;
constexpr int kMaxStops = 16;
constexpr size_t kMaxStopBytes = 256;
constexpr int kMaxStopTokens = 1024;
constexpr uint32_t kMaxTopLogprobs = 20;
constexpr int kMaxChatMessages = 4096;
// More than any model reads; a longer text would only be tokenized to be refused.
constexpr size_t kMaxTextBytes = size_t{8} << 20;

absl::Status CheckName(const char* field, const std::string& value) {
  if (value.size() <= kMaxNameBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, " has ", value.size(), " bytes, at most ",
                                                 kMaxNameBytes, " are allowed"));
}

absl::Status CheckText(const char* field, size_t bytes) {
  if (bytes <= kMaxTextBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, " has ", bytes, " bytes, at most ", kMaxTextBytes, " are allowed"));
}

uint64_t RandomSeed() {
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) | device();
}

absl::StatusOr<engine::SamplingParams> ReadSampling(const v1::SamplingParameters& from) {
  engine::SamplingParams to;
  to.temperature = from.temperature();
  if (from.top_k() > static_cast<uint32_t>(std::numeric_limits<int32_t>::max())) {
    return absl::InvalidArgumentError(
        absl::StrCat("sampling.top_k is ", from.top_k(), ", at most 2147483647 is allowed"));
  }
  to.top_k = static_cast<int32_t>(from.top_k());
  if (from.has_top_p()) to.top_p = from.top_p();
  to.min_p = from.min_p();
  if (from.has_repetition_penalty()) to.repetition_penalty = from.repetition_penalty();
  to.presence_penalty = from.presence_penalty();
  to.frequency_penalty = from.frequency_penalty();
  to.seed = from.has_seed() ? from.seed() : RandomSeed();
  engine::Status status = engine::ValidateSamplingParams(to);
  if (!status.ok()) return ToAbslStatus(status);
  return to;
}

}  // namespace

absl::StatusOr<GenerationRequest> RequestReader::Read(const v1::GenerateRequest& request) const {
  GenerationRequest out;
  if (auto status = CheckName("tenant", request.tenant()); !status.ok()) return status;
  if (auto status = CheckName("request_id", request.request_id()); !status.ok()) return status;
  auto sampling = ReadSampling(request.sampling());
  if (!sampling.ok()) return sampling.status();
  out.sampling = *sampling;
  out.max_tokens = request.max_tokens() > 0 ? request.max_tokens() : limits_.default_max_tokens;
  out.tenant = request.tenant();

  if (request.stop_size() > kMaxStops) {
    return absl::InvalidArgumentError(absl::StrCat(
        "stop has ", request.stop_size(), " entries, at most ", kMaxStops, " are allowed"));
  }
  for (const std::string& stop : request.stop()) {
    if (stop.empty() || stop.size() > kMaxStopBytes) {
      return absl::InvalidArgumentError(absl::StrCat(
          "an entry of stop has ", stop.size(), " bytes, 1 to ", kMaxStopBytes, " are allowed"));
    }
    out.stop.push_back(stop);
  }
  if (request.stop_token_ids_size() > kMaxStopTokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("stop_token_ids has ", request.stop_token_ids_size(), " entries, at most ",
                     kMaxStopTokens, " are allowed"));
  }
  for (uint32_t id : request.stop_token_ids()) {
    if (id >= vocab_size_) {
      return absl::InvalidArgumentError(
          absl::StrCat("stop_token_ids holds ", id, ", outside [0, ", vocab_size_, ")"));
    }
    out.final_tokens.push_back(static_cast<TokenId>(id));
  }
  if (!request.ignore_eos()) {
    out.final_tokens.insert(out.final_tokens.end(), eos_token_ids_.begin(), eos_token_ids_.end());
  }
  if (request.top_logprobs() > kMaxTopLogprobs) {
    return absl::InvalidArgumentError(absl::StrCat("top_logprobs is ", request.top_logprobs(),
                                                   ", at most ", kMaxTopLogprobs, " is allowed"));
  }
  out.top_logprobs = static_cast<int32_t>(request.top_logprobs());
  out.logprobs = request.logprobs() || out.top_logprobs > 0;
  if (auto status = ReadSpeculation(request.speculation(), out); !status.ok()) return status;

  // Last, because it costs most.
  auto prompt = ReadPrompt(request);
  if (!prompt.ok()) return prompt.status();
  out.prompt = *std::move(prompt);
  return out;
}

absl::Status RequestReader::ReadSpeculation(const v1::SpeculationParameters& speculation,
                                            GenerationRequest& out) const {
  out.speculate = !speculation.disabled();
  if (speculation.has_max_nodes()) {
    if (speculation.max_nodes() > limits_.max_draft_nodes) {
      return absl::InvalidArgumentError(absl::StrCat("speculation.max_nodes is ",
                                                     speculation.max_nodes(), ", at most ",
                                                     limits_.max_draft_nodes, " is allowed"));
    }
    out.max_nodes = speculation.max_nodes();
  }
  // The same numbers: services/draft/server/wire.cc holds them to that.
  out.policy = static_cast<draft::Policy>(speculation.policy());
  if (auto status = draft::CheckPolicy("speculation.policy", out.policy); !status.ok()) {
    return status;
  }
  if (auto status = CheckText("speculation.predicted_text", speculation.predicted_text().size());
      !status.ok()) {
    return status;
  }
  if (out.speculate && !speculation.predicted_text().empty()) {
    out.predicted = tokenizer_.Encode(speculation.predicted_text(), /*add_special_tokens=*/false);
    // Of no use: no answer gets that far.
    if (out.predicted.size() > limits_.max_predicted_tokens) {
      out.predicted.resize(limits_.max_predicted_tokens);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<TokenId>> RequestReader::ReadChat(const v1::ChatPrompt& chat) const {
  if (chat_template_ == nullptr) {
    return absl::FailedPreconditionError("the model has no chat template; send text or tokens");
  }
  if (chat.messages().empty()) return absl::InvalidArgumentError("chat has no messages");
  if (chat.messages_size() > kMaxChatMessages) {
    return absl::InvalidArgumentError(absl::StrCat("chat has ", chat.messages_size(),
                                                   " messages, at most ", kMaxChatMessages,
                                                   " are allowed"));
  }
  size_t bytes = 0;
  std::vector<ChatMessage> messages;
  for (const v1::ChatMessage& message : chat.messages()) {
    if (message.role().empty()) {
      return absl::InvalidArgumentError("a chat message has no role");
    }
    if (auto status = CheckName("the role of a chat message", message.role()); !status.ok()) {
      return status;
    }
    bytes += message.role().size() + message.content().size();
    messages.push_back({message.role(), message.content()});
  }
  if (auto status = CheckText("chat", bytes); !status.ok()) return status;
  auto text = chat_template_->Render(messages, /*add_generation_prompt=*/true);
  if (!text.ok()) return text.status();
  // The template writes the special tokens out itself.
  return tokenizer_.Encode(*text, /*add_special_tokens=*/false);
}

absl::StatusOr<std::vector<TokenId>> RequestReader::ReadPrompt(
    const v1::GenerateRequest& request) const {
  std::vector<TokenId> prompt;
  switch (request.prompt_case()) {
    case v1::GenerateRequest::kText:
      if (auto status = CheckText("text", request.text().size()); !status.ok()) return status;
      prompt = tokenizer_.Encode(request.text(), /*add_special_tokens=*/true);
      break;
    case v1::GenerateRequest::kTokens:
      prompt.reserve(request.tokens().ids_size());
      for (uint32_t id : request.tokens().ids()) {
        if (id >= vocab_size_) {
          return absl::InvalidArgumentError(
              absl::StrCat("tokens.ids holds ", id, ", outside [0, ", vocab_size_, ")"));
        }
        prompt.push_back(static_cast<TokenId>(id));
      }
      break;
    case v1::GenerateRequest::kChat: {
      auto ids = ReadChat(request.chat());
      if (!ids.ok()) return ids.status();
      prompt = *std::move(ids);
      break;
    }
    case v1::GenerateRequest::PROMPT_NOT_SET:
      return absl::InvalidArgumentError("the prompt is missing: set text, tokens or chat");
  }
  if (prompt.empty()) {
    return absl::InvalidArgumentError("the prompt is empty: at least one token is needed");
  }
  return prompt;
}

absl::StatusOr<std::vector<TokenId>> RequestReader::Tokenize(
    const v1::TokenizeRequest& request) const {
  switch (request.input_case()) {
    case v1::TokenizeRequest::kText:
      if (auto status = CheckText("text", request.text().size()); !status.ok()) return status;
      return tokenizer_.Encode(request.text(), /*add_special_tokens=*/true);
    case v1::TokenizeRequest::kChat:
      return ReadChat(request.chat());
    case v1::TokenizeRequest::INPUT_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("the input is missing: set text or chat");
}

}  // namespace strata::verify
