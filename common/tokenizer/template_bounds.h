#ifndef STRATA_COMMON_TOKENIZER_TEMPLATE_BOUNDS_H_
#define STRATA_COMMON_TOKENIZER_TEMPLATE_BOUNDS_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace strata::tokenizer {

// A Jinja template as it can be given to minja, which parses and renders by recursion, and whose
// regular expressions recurse for each character that they match: what nests deeper than a stack
// holds would end the process. What comments say is left out. INVALID_ARGUMENT names what else is
// too much, where, and what is allowed: some ten times what the templates of known models need.
// What a template does when it runs (a macro that calls itself without end) is not bounded.
absl::StatusOr<std::string> BoundTemplate(std::string_view text);

}  // namespace strata::tokenizer

#endif  // STRATA_COMMON_TOKENIZER_TEMPLATE_BOUNDS_H_
