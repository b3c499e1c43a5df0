#ifndef STRATA_COMMON_TOKENIZER_PATTERN_H_
#define STRATA_COMMON_TOKENIZER_PATTERN_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/tokenizer/json.h"
#include "common/tokenizer/regex.h"

namespace strata::tokenizer {

// A "pattern" member: {"String": text} or {"Regex": pattern}.
absl::StatusOr<Regex> ParsePattern(const Json& component, absl::string_view where);

// {"type": "Replace", "pattern": …, "content": …}, a normalizer and a decoder.
// Immutable; thread-safe.
class Replacement {
 public:
  static absl::StatusOr<Replacement> Create(const Json& config, absl::string_view where);
  // All matches of the pattern in `text` (valid UTF-8) become the content.
  std::string Apply(std::string_view text) const;

 private:
  Replacement(std::string literal, Regex regex, std::string content)
      : literal_(std::move(literal)), regex_(std::move(regex)), content_(std::move(content)) {}

  std::string literal_;  // a plain pattern, found without the regex; or empty
  Regex regex_;
  std::string content_;
};

}  // namespace strata::tokenizer

#endif  // STRATA_COMMON_TOKENIZER_PATTERN_H_
