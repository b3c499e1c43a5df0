#ifndef STRATA_COMMON_TOKENIZER_BYTE_LEVEL_H_
#define STRATA_COMMON_TOKENIZER_BYTE_LEVEL_H_

#include <string>
#include <string_view>

namespace strata::tokenizer {

// GPT-2's reversible alphabet: every byte is written as one printable character
// (the space as "Ġ"). Thread-safe.

// Appends each byte of `bytes` as its character.
void AppendByteLevel(std::string_view bytes, std::string* out);

// Appends the bytes that `text` stands for; false, appending nothing, if it has a
// character outside the alphabet.
bool AppendFromByteLevel(std::string_view text, std::string* out);

}  // namespace strata::tokenizer

#endif  // STRATA_COMMON_TOKENIZER_BYTE_LEVEL_H_
