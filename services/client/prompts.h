#ifndef STRATA_SERVICES_CLIENT_PROMPTS_H_
#define STRATA_SERVICES_CLIENT_PROMPTS_H_

#include <cstdio>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace strata::client {

// Longest prompt text that is read; the service's own limits are lower.
inline constexpr size_t kMaxPromptBytes = 64 << 20;

// All of a file; "-" is standard input.
absl::StatusOr<std::string> ReadText(const std::string& path);

// INVALID_ARGUMENT, naming `what` and the first byte at fault, if `text` is not UTF-8: no protocol
// buffer carries it.
absl::Status CheckUtf8(const std::string& what, const std::string& text);

struct BenchPrompt {
  std::string text;
  // To be sent as a user's message.
  bool chat = false;
};

// The first `limit` prompts (0: all) of a file. Lines of a .jsonl file are objects
// with a string `prompt`, or with a list `turns` whose first string is a chat's
// first message (Spec-Bench). Lines of any other file are prompts as they are;
// empty ones are left out. INVALID_ARGUMENT names the line at fault.
absl::StatusOr<std::vector<BenchPrompt>> ReadPrompts(const std::string& path, size_t limit);

}  // namespace strata::client

#endif  // STRATA_SERVICES_CLIENT_PROMPTS_H_
