#ifndef STRATA_COMMON_TOKENIZER_TEMPLATE_BOUNDS_H_
#define STRATA_COMMON_TOKENIZER_TEMPLATE_BOUNDS_H_

#include <string_view>

#include "absl/status/status.h"

namespace strata::tokenizer {

// Whether a Jinja template is small enough to be given to minja, which parses and renders by
// recursion, and whose regular expressions recurse for each character that they match: what nests
// deeper than a stack holds would end the process. The bounds are some ten times what the templates
// of known models need. INVALID_ARGUMENT names what is too much, where, and what is allowed. What a
// template does when it runs (a macro that calls itself without end) is not bounded.
absl::Status CheckTemplateBounds(std::string_view text);

}  // namespace strata::tokenizer

#endif  // STRATA_COMMON_TOKENIZER_TEMPLATE_BOUNDS_H_
