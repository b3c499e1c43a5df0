#ifndef STRATA_COMMON_CONFIG_OPTION_VALUE_H_
#define STRATA_COMMON_CONFIG_OPTION_VALUE_H_

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace strata::config {

// The options of `app` that a file or the environment may set: all but --help, --config and those
// like them.
std::vector<CLI::Option*> ConfigurableOptions(CLI::App& app);

// True for an option that is there or not, and takes no value on the command line.
bool IsFlag(const CLI::Option& option);

// True for an option that may be given more than once.
bool IsList(const CLI::Option& option);

// Brings values from a file or the environment into the form that CLI11 takes (a flag's are "true"
// and "false") and checks them as the command line's are; the error says what is allowed. It runs
// the option's callback, so the variable behind it changes: parse afterwards. Results that the
// option has are kept.
absl::Status CheckValues(CLI::Option& option, std::vector<std::string>& values);

}  // namespace strata::config

#endif  // STRATA_COMMON_CONFIG_OPTION_VALUE_H_
