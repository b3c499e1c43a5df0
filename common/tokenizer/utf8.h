#ifndef STRATA_COMMON_TOKENIZER_UTF8_H_
#define STRATA_COMMON_TOKENIZER_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace strata::tokenizer {

// UTF-8 as Unicode 3.9 (table 3-7) defines it: no surrogates, no overlong forms,
// nothing above U+10FFFF. All functions are pure and thread-safe.

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

// What starts at text[pos] (pos < text.size()).
struct Utf8Unit {
  // Bytes of the character, or of the maximal invalid part; at least 1.
  int length;
  // False if the bytes are not a whole character.
  bool valid;
  // True if the bytes are invalid only because the text ends too early.
  bool truncated;
};
Utf8Unit ScanUtf8(std::string_view text, size_t pos);

// Index of the first byte that belongs to no valid character, or text.size().
size_t ValidUtf8Prefix(std::string_view text);

// Appends `text` to `out`, each maximal invalid part as one U+FFFD (as Python's
// errors="replace" and Rust's from_utf8_lossy do).
void AppendLossyUtf8(std::string_view text, std::string* out);

// The character at text[pos] of valid UTF-8; advances pos behind it.
char32_t DecodeUtf8(std::string_view text, size_t* pos);

// Where the character ahead of text[pos] starts, in valid UTF-8; 0 < pos <= size.
size_t PreviousUtf8(std::string_view text, size_t pos);

void AppendUtf8(char32_t c, std::string* out);

}  // namespace strata::tokenizer

#endif  // STRATA_COMMON_TOKENIZER_UTF8_H_
