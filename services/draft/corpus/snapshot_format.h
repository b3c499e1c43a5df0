#ifndef STRATA_SERVICES_DRAFT_CORPUS_SNAPSHOT_FORMAT_H_
#define STRATA_SERVICES_DRAFT_CORPUS_SNAPSHOT_FORMAT_H_

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "common/base/draft_tree.h"

// The bytes of a snapshot's keys and values. README.md beside this file is the
// specification; a change of either raises kFormatVersion.
namespace strata::draft {

inline constexpr int kFormatVersion = 1;
// Bounds that a reader may rely on, whatever the builder's options were.
inline constexpr int kMaxOrder = 16;           // tokens of a context
inline constexpr int kMaxDepth = 8;            // tokens of a continuation
inline constexpr int kMaxTop = 64;             // continuations of a context
inline constexpr int64_t kMaxVocab = 1 << 24;  // a key holds a token in 3 bytes
inline constexpr int kMaxWindow = kMaxOrder + kMaxDepth;

// One token that follows a context, and then the likeliest path below it:
// tokens[i + 1] is the most frequent token after the context and tokens[0..i].
struct Branch {
  std::array<TokenId, kMaxDepth> tokens{};
  // counts[i]: how often the context was followed by tokens[0..i]; never rises.
  std::array<uint64_t, kMaxDepth> counts{};
  int length = 0;
};

struct ContextValue {
  // Occurrences of the context, with or without a token after it.
  uint64_t total = 0;
  // The most frequent next tokens: by count, a tie to the lower token.
  std::vector<Branch> branches;
};

// Replaces `key` by the key of `context` (1 to kMaxOrder tokens, most recent
// last, each in [0, kMaxVocab)). Keys of one order sort as their tokens do.
void EncodeKey(std::span<const TokenId> context, std::string& key);

// The inverse. DATA_LOSS if `key` is no key or a token is not below vocab_size.
absl::Status DecodeKey(std::string_view key, int64_t vocab_size, std::vector<TokenId>& context);

// Replaces `bytes` by the encoding of `value`, which keeps the promises above.
void EncodeValue(const ContextValue& value, std::string& bytes);

// The inverse, for bytes from anywhere: checks every promise above and that
// tokens are in [0, vocab_size). DATA_LOSS names the first one broken; `value` is
// then unspecified.
absl::Status DecodeValue(std::string_view bytes, int64_t vocab_size, ContextValue& value);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_SNAPSHOT_FORMAT_H_
