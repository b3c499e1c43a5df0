#ifndef STRATA_COMMON_CONFIG_NEAREST_H_
#define STRATA_COMMON_CONFIG_NEAREST_H_

#include <string>
#include <string_view>
#include <vector>

namespace strata::config {

// The one of `known` that takes the fewest edits (insert, delete or replace a character) to make
// from `name`, the first of several; "" if there is none. For messages about misspelt names.
std::string Nearest(std::string_view name, const std::vector<std::string>& known);

}  // namespace strata::config

#endif  // STRATA_COMMON_CONFIG_NEAREST_H_
