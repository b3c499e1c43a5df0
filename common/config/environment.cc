#include "common/config/environment.h"

#include <algorithm>
#include <map>
#include <regex>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/config/nearest.h"
#include "common/config/option_value.h"

namespace strata::config {
namespace {

constexpr std::string_view kServiceHost = "_SERVICE_HOST";

// Those variables with the prefix, by name.
std::map<std::string, std::string> VariablesWithPrefix(std::string_view prefix,
                                                       const char* const* environment) {
  std::map<std::string, std::string> variables;
  for (; *environment != nullptr; ++environment) {
    const std::string_view variable = *environment;
    const size_t equals = variable.find('=');
    if (equals == std::string_view::npos || !variable.starts_with(prefix)) continue;
    // Of a name that is there twice the first counts, as for getenv().
    variables.emplace(variable.substr(0, equals), variable.substr(equals + 1));
  }
  return variables;
}

std::map<std::string, CLI::Option*> OptionsByVariable(CLI::App& app, std::string_view prefix) {
  std::map<std::string, CLI::Option*> options;
  for (CLI::Option* option : ConfigurableOptions(app)) {
    for (const std::string& name : option->get_lnames()) {
      options[VariableName(prefix, name)] = option;
    }
  }
  // A file cannot name another file; the environment can.
  if (CLI::Option* file = app.get_config_ptr(); file != nullptr) {
    options[VariableName(prefix, file->get_single_name())] = file;
  }
  return options;
}

// The Services whose variables may be in the environment, as their variables begin.
std::vector<std::string> LinkedServices(std::string_view prefix,
                                        const std::map<std::string, std::string>& variables) {
  std::vector<std::string> services = {std::string(prefix.substr(0, prefix.size() - 1))};
  for (const auto& [name, value] : variables) {
    if (name.ends_with(kServiceHost)) {
      services.push_back(name.substr(0, name.size() - kServiceHost.size()));
    }
  }
  return services;
}

// https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
bool IsServiceLink(const std::string& name, const std::vector<std::string>& services) {
  // Names of Services have 63 characters at most. std::regex recurses on long ones.
  if (name.size() > 256) return false;
  static const std::regex kLink(
      "_SERVICE_HOST|_SERVICE_PORT(_[A-Z0-9_]+)?|_PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
      "?");
  return std::ranges::any_of(services, [&](const std::string& service) {
    return name.starts_with(service) && std::regex_match(name.substr(service.size()), kLink);
  });
}

}  // namespace

std::string VariableName(std::string_view prefix, std::string_view option) {
  std::string name(option);
  std::ranges::replace(name, '-', '_');
  absl::AsciiStrToUpper(&name);
  return std::string(prefix) + name;
}

absl::StatusOr<std::vector<std::string>> ArgumentsFromEnvironment(
    CLI::App& app, std::string_view prefix, const char* const* environment,
    const std::set<const CLI::Option*>& given) {
  const auto variables = VariablesWithPrefix(prefix, environment);
  const auto options = OptionsByVariable(app, prefix);
  const auto services = LinkedServices(prefix, variables);
  std::vector<std::string> known;
  known.reserve(options.size());
  for (const auto& [name, option] : options) known.push_back(name);

  std::vector<std::string> arguments;
  std::map<const CLI::Option*, std::string> set_by;
  for (const auto& [name, value] : variables) {
    const auto found = options.find(name);
    if (found == options.end()) {
      if (IsServiceLink(name, services)) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("unknown environment variable ", absl::Utf8SafeCEscape(name),
                       "; the nearest known one is ", Nearest(name, known)));
    }
    if (value.empty()) continue;
    CLI::Option& option = *found->second;
    if (const auto [other, first] = set_by.emplace(&option, name); !first) {
      return absl::InvalidArgumentError(absl::StrCat("environment variables ", other->second,
                                                     " and ", name, " set the same option"));
    }
    std::vector<std::string> values = {value};
    if (absl::Status status = CheckValues(option, values); !status.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("environment variable ", name, ": ", status.message()));
    }
    if (given.contains(&option)) continue;
    // By the name that the variable came from: of a flag with several, some may say no.
    const auto& names = option.get_lnames();
    const auto spelled =
        std::ranges::find_if(names, [&, &name = name](const std::string& long_name) {
          return VariableName(prefix, long_name) == name;
        });
    arguments.push_back(absl::StrCat("--", *spelled, "=", values.front()));
  }
  return arguments;
}

}  // namespace strata::config
