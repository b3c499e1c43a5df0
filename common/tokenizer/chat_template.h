#ifndef STRATA_COMMON_TOKENIZER_CHAT_TEMPLATE_H_
#define STRATA_COMMON_TOKENIZER_CHAT_TEMPLATE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace strata {

// Both are UTF-8.
struct ChatMessage {
  std::string role;
  std::string content;
};

// The `chat_template` of a model folder (tokenizer_config.json or
// chat_template.jinja). Immutable; thread-safe.
class ChatTemplate {
 public:
  // NOT_FOUND if the folder has no template; INVALID_ARGUMENT if it does not parse.
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> Load(const std::string& model_dir);
  virtual ~ChatTemplate() = default;
  // Renders as `transformers.apply_chat_template(..., tokenize=False)` does.
  // INVALID_ARGUMENT for no messages (transformers refuses them, too) and invalid
  // UTF-8; otherwise it carries the template's own complaint (raise_exception).
  virtual absl::StatusOr<std::string> Render(const std::vector<ChatMessage>& messages,
                                             bool add_generation_prompt) const = 0;
};

}  // namespace strata

#endif  // STRATA_COMMON_TOKENIZER_CHAT_TEMPLATE_H_
