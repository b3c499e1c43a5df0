#ifndef STRATA_COMMON_TOKENIZER_STRINGS_H_
#define STRATA_COMMON_TOKENIZER_STRINGS_H_

#include <string_view>

#include "absl/strings/string_view.h"

namespace strata::tokenizer {

// Debian builds Abseil with a string_view of its own, which std's does not turn
// into by itself.
inline absl::string_view ToAbsl(std::string_view text) { return {text.data(), text.size()}; }

}  // namespace strata::tokenizer

#endif  // STRATA_COMMON_TOKENIZER_STRINGS_H_
