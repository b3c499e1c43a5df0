#ifndef STRATA_COMMON_TOKENIZER_UNICODE_ADDITIONS_H_
#define STRATA_COMMON_TOKENIZER_UNICODE_ADDITIONS_H_

#include <cstdint>
#include <vector>

namespace strata::tokenizer {

// Characters [first, last] of a general category ("Lu", "Nd", …).
struct CategoryRange {
  const char* category;
  uint32_t first;
  uint32_t last;
};

// What Unicode 15 to 16 added: PyPI `tokenizers` knows it, PCRE2 10.42 does not.
const std::vector<CategoryRange>& UnicodeAdditions();

}  // namespace strata::tokenizer

#endif  // STRATA_COMMON_TOKENIZER_UNICODE_ADDITIONS_H_
