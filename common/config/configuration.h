#ifndef STRATA_COMMON_CONFIG_CONFIGURATION_H_
#define STRATA_COMMON_CONFIG_CONFIGURATION_H_

#include <CLI/CLI.hpp>
#include <functional>
#include <optional>
#include <string>

namespace strata::config {

// Sets the options of `app`, which are declared, from the command line, then the environment
// (variables that start with `prefix`), then the file of --config; see environment.h and
// yaml_config.h. Adds --config and --print-config.
//
// Then `check` runs, which checks options against each other (throws CLI::ValidationError) and may
// give those a default_str() whose default follows from others.
//
// Returns nothing if the service is to start. Else help, version, the configuration or what is
// wrong is printed, and the answer is what main() is to return: 0, or `usage_error` if something
// is wrong.
std::optional<int> Configure(CLI::App& app, const std::string& prefix, int argc,
                             const char* const* argv, int usage_error,
                             const std::function<void()>& check);

}  // namespace strata::config

#endif  // STRATA_COMMON_CONFIG_CONFIGURATION_H_
