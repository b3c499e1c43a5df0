#ifndef STRATA_COMMON_TOKENIZER_REGEX_H_
#define STRATA_COMMON_TOKENIZER_REGEX_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

struct pcre2_real_code_8;

namespace strata::tokenizer {

// A part of a text: [begin, end) in bytes, and whether the pattern matched it.
struct Span {
  size_t begin;
  size_t end;
  bool match;
};

// A regular expression as tokenizer.json writes them (Oniguruma's syntax, which
// PyPI `tokenizers` uses), run by PCRE2's JIT over UTF-8 with Unicode properties.
// Immutable; thread-safe.
class Regex {
 public:
  // INVALID_ARGUMENT with PCRE2's message and offset if it does not compile;
  // UNIMPLEMENTED for the few constructs that mean something else in PCRE2.
  static absl::StatusOr<Regex> Compile(std::string_view pattern);
  // A pattern that matches `text` itself.
  static absl::StatusOr<Regex> Literal(std::string_view text);

  // Appends to `spans` matches and what lies between them; together they cover
  // `text`, which must be valid UTF-8. An empty text has one empty non-match.
  void Split(std::string_view text, std::vector<Span>* spans) const;

 private:
  struct Deleter {
    void operator()(pcre2_real_code_8* code) const;
  };
  explicit Regex(pcre2_real_code_8* code) : code_(code) {}
  static absl::StatusOr<Regex> CompileRaw(const std::string& pattern, std::string_view shown,
                                          uint32_t options);

  std::unique_ptr<pcre2_real_code_8, Deleter> code_;
};

// The same pattern in PCRE2's syntax. Exposed for tests.
absl::StatusOr<std::string> TranslateOniguruma(std::string_view pattern);

}  // namespace strata::tokenizer

#endif  // STRATA_COMMON_TOKENIZER_REGEX_H_
