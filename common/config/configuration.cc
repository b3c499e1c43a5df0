#include "common/config/configuration.h"

#include <unistd.h>

#include <exception>
#include <filesystem>
#include <iostream>
#include <memory>
#include <set>
#include <string_view>
#include <system_error>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/config/environment.h"
#include "common/config/nearest.h"
#include "common/config/option_value.h"
#include "common/config/yaml_config.h"

namespace strata::config {
namespace {

std::string NotAFolder(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_directory(path, error) ? path + " is a folder, not a file" : "";
}

void AddOwnOptions(CLI::App& app, const std::string& prefix, bool& print) {
  app.set_config(
         "--config", "",
         "Read options from this YAML file: 'key: value', keys as here without dashes ahead")
      ->check(CLI::Validator(NotAFolder, ""));
  app.add_flag("--print-config", print,
               "Print the configuration that all sources make, as a file for --config, and end")
      ->configurable(false);
  app.config_formatter(std::make_shared<YamlConfig>(&app));
  app.footer(absl::StrCat(
      "Each option can also be set by an environment variable (--drain-seconds: ",
      VariableName(prefix, "drain-seconds"),
      ") or\nin the file of --config. The command line wins over the environment, that over the "
      "file."));
}

// Options that the command line names. CLI11 tells only after it has parsed, and the arguments
// that stand for the environment must be there then.
std::set<const CLI::Option*> GivenOptions(const CLI::App& app, int argc, const char* const* argv) {
  std::set<const CLI::Option*> given;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (!argument.starts_with("--")) continue;
    const size_t equals = argument.find('=');
    const CLI::Option* option = app.get_option_no_throw(std::string(argument.substr(0, equals)));
    if (option == nullptr) continue;
    given.insert(option);
    const bool has_value = equals != std::string_view::npos && equals + 1 < argument.size();
    if (!IsFlag(*option) && !has_value) ++i;  // the next one is its value, whatever it looks like
  }
  return given;
}

// Says of the first argument that is no option which option it may have been meant for.
[[noreturn]] void ThrowNearest(CLI::App& app, int argc, const char* const* argv,
                               const CLI::ExtrasError& error) {
  std::vector<std::string> known;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
  }
  for (int i = 1; i < argc; ++i) {
    const std::string_view whole = argv[i];
    const std::string argument(whole.substr(0, whole.find('=')));
    if (!argument.starts_with("--") || app.get_option_no_throw(argument) != nullptr) continue;
    throw CLI::ParseError(absl::StrCat("unknown option ", absl::Utf8SafeCEscape(argument),
                                       "; the nearest known one is ", Nearest(argument, known)),
                          CLI::ExitCodes::ExtrasError);
  }
  throw error;
}

void ParseAll(CLI::App& app, const std::string& prefix, int argc, const char* const* argv) {
  const absl::StatusOr<std::vector<std::string>> environment =
      ArgumentsFromEnvironment(app, prefix, environ, GivenOptions(app, argc, argv));
  std::vector<const char*> arguments(argv, argv + (argc > 0 ? 1 : 0));
  if (environment.ok()) {
    for (const std::string& argument : *environment) arguments.push_back(argument.c_str());
  }
  for (int i = 1; i < argc; ++i) arguments.push_back(argv[i]);
  try {
    app.parse(static_cast<int>(arguments.size()), arguments.data());
  } catch (const CLI::ExtrasError& error) {
    if (environment.ok()) ThrowNearest(app, argc, argv, error);
  } catch (const CLI::ParseError& error) {
    // Help works whatever the environment holds. Else what is wrong there comes first: an option
    // may be missing for a misspelt variable.
    if (environment.ok() || error.get_exit_code() == 0) throw;
  }
  if (!environment.ok()) throw CLI::ConfigError(std::string(environment.status().message()));
}

}  // namespace

std::optional<int> Configure(CLI::App& app, const std::string& prefix, int argc,
                             const char* const* argv, int usage_error,
                             const std::function<void()>& check) {
  bool print = false;
  AddOwnOptions(app, prefix, print);
  try {
    ParseAll(app, prefix, argc, argv);
    check();
    if (!print) return std::nullopt;
    std::cout << app.config_to_str(/*default_also=*/true) << std::flush;
    return std::cout.good() ? 0 : 1;
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : usage_error;
  } catch (const std::exception& error) {
    // None is known of. But whatever a configuration holds, nothing is thrown out of main().
    std::cerr << "wrong options: " << error.what() << std::endl;
    return usage_error;
  }
}

}  // namespace strata::config
