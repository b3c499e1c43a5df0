#ifndef STRATA_COMMON_CONFIG_ENVIRONMENT_H_
#define STRATA_COMMON_CONFIG_ENVIRONMENT_H_

#include <CLI/CLI.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace strata::config {

// The variable that sets an option: STRATA_VERIFY_ and kv-tokens make STRATA_VERIFY_KV_TOKENS.
std::string VariableName(std::string_view prefix, std::string_view option);

// What `environment` (NAME=value strings, a null pointer after the last) says as command line
// arguments for `app`: "--kv-tokens=512". Left out are empty variables, which are as if unset,
// and the options in `given`, which the command line sets itself.
//
// Every variable that starts with `prefix` must belong to an option of `app` (--config too) and
// hold a value that it takes; the error names the variable, and for an unknown one the nearest
// known. Two exceptions, for what Kubernetes sets by itself ("service links"): the variables that
// it documents for a Service of the name in `prefix` (STRATA_VERIFY_SERVICE_HOST, …_PORT,
// …_PORT_50061_TCP_ADDR), and those for Services whose names begin so (strata-verify-canary), if
// their …_SERVICE_HOST is there too.
absl::StatusOr<std::vector<std::string>> ArgumentsFromEnvironment(
    CLI::App& app, std::string_view prefix, const char* const* environment,
    const std::set<const CLI::Option*>& given);

}  // namespace strata::config

#endif  // STRATA_COMMON_CONFIG_ENVIRONMENT_H_
