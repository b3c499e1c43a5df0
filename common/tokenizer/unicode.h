#ifndef STRATA_COMMON_TOKENIZER_UNICODE_H_
#define STRATA_COMMON_TOKENIZER_UNICODE_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace strata::tokenizer {

// Character classes of the Rust functions that PyPI `tokenizers` calls.
bool IsNumeric(char32_t c);     // char::is_numeric: Nd, Nl, No
bool IsWhiteSpace(char32_t c);  // char::is_whitespace: White_Space
bool IsWordChar(char32_t c);    // \w of the regex crate

// One of the four Unicode normalisation forms. Immutable; thread-safe.
class UnicodeForm {
 public:
  // `name`: "NFC", "NFD", "NFKC" or "NFKD".
  static absl::StatusOr<std::unique_ptr<UnicodeForm>> Create(std::string_view name);
  virtual ~UnicodeForm() = default;
  // `text` is valid UTF-8. Text that is in the form already is left alone.
  virtual void Apply(std::string* text) const = 0;
};

}  // namespace strata::tokenizer

#endif  // STRATA_COMMON_TOKENIZER_UNICODE_H_
