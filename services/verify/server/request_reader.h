#ifndef STRATA_SERVICES_VERIFY_SERVER_REQUEST_READER_H_
#define STRATA_SERVICES_VERIFY_SERVER_REQUEST_READER_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/draft_tree.h"
#include "common/tokenizer/chat_template.h"
#include "common/tokenizer/tokenizer.h"
#include "services/verify/scheduler/generation.h"
#include "strata/v1/generate.pb.h"

namespace strata::verify {

struct RequestLimits {
  // What a request with max_tokens 0 gets.
  uint32_t default_max_tokens = 256;
  // Most that speculation.max_nodes may ask for.
  uint32_t max_draft_nodes = 256;
  // Tokens of speculation.predicted_text that are kept; the model's longest sequence, or less.
  size_t max_predicted_tokens = size_t{1} << 16;
};

// Turns what a client sent into what the scheduler takes, checking every field.
// Immutable; thread-safe.
class RequestReader {
 public:
  // All borrowed. `chat_template` may be null: chat prompts are then refused.
  RequestReader(const Tokenizer& tokenizer, const ChatTemplate* chat_template, int64_t vocab_size,
                std::vector<int32_t> eos_token_ids, const RequestLimits& limits)
      : tokenizer_(tokenizer),
        chat_template_(chat_template),
        vocab_size_(vocab_size),
        eos_token_ids_(std::move(eos_token_ids)),
        limits_(limits) {}

  // INVALID_ARGUMENT names the field, its value and what is allowed. FAILED_PRECONDITION:
  // a chat prompt for a model without a chat template. A request without a seed gets one.
  absl::StatusOr<GenerationRequest> Read(const v1::GenerateRequest& request) const;
  // The ids of a text or chat, as Read would make them.
  absl::StatusOr<std::vector<TokenId>> Tokenize(const v1::TokenizeRequest& request) const;

 private:
  absl::StatusOr<std::vector<TokenId>> ReadPrompt(const v1::GenerateRequest& request) const;
  absl::StatusOr<std::vector<TokenId>> ReadChat(const v1::ChatPrompt& chat) const;
  absl::Status ReadSpeculation(const v1::SpeculationParameters& speculation,
                               GenerationRequest& out) const;

  const Tokenizer& tokenizer_;
  const ChatTemplate* const chat_template_;
  const int64_t vocab_size_;
  const std::vector<int32_t> eos_token_ids_;
  const RequestLimits limits_;
};

}  // namespace strata::verify

#endif  // STRATA_SERVICES_VERIFY_SERVER_REQUEST_READER_H_
