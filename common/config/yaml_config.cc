#include "common/config/yaml_config.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/config/flat_yaml.h"
#include "common/config/nearest.h"
#include "common/config/option_value.h"

namespace strata::config {
namespace {

std::map<std::string, CLI::Option*> OptionsByKey(CLI::App& app) {
  std::map<std::string, CLI::Option*> options;
  for (CLI::Option* option : ConfigurableOptions(app)) {
    for (const std::string& name : option->get_lnames()) options[name] = option;
  }
  return options;
}

[[noreturn]] void Fail(const std::string& file, int line, const std::string& key,
                       const std::string& what) {
  throw CLI::FileError(absl::StrCat(file, ":", line, ": ", absl::Utf8SafeCEscape(key), ": ", what));
}

CLI::Option& FindOption(const std::map<std::string, CLI::Option*>& options, const YamlEntry& entry,
                        const std::string& name, const CLI::App& app, const std::string& file) {
  if (const auto found = options.find(name); found != options.end()) return *found->second;
  if (app.get_option_no_throw("--" + name) != nullptr) {
    Fail(file, entry.line, entry.key, "this is for the command line, not for a file");
  }
  std::vector<std::string> known;
  known.reserve(options.size());
  for (const auto& [key, option] : options) known.push_back(key);
  Fail(file, entry.line, entry.key,
       absl::StrCat("unknown key; the nearest known one is ", Nearest(name, known)));
}

// The value of a key that sets a flag to `result`. Of a flag like --no-self-check, which is
// declared to set its variable to false, it is the opposite.
std::string FlagKeyValue(const CLI::Option& option, const std::string& result) {
  return option.get_flag_value(option.get_single_name(), "true") == result ? "true" : "false";
}

// What stands behind the option's key; "" if the option has no value.
std::string WrittenValue(const CLI::Option& option, bool default_also) {
  const std::vector<std::string> results = option.reduced_results();
  for (const std::string& result : results) {
    if (!IsUtf8(result)) {
      throw CLI::ValidationError(option.get_name(), "the value is not UTF-8, which YAML must be");
    }
  }
  if (IsFlag(option)) {
    if (!results.empty()) return FlagKeyValue(option, results.back());
    return default_also ? "false" : "";
  }
  if (!results.empty() && IsList(option)) {
    // Each with quotes: a comma or bracket inside would end a plain one.
    return absl::StrCat("[",
                        absl::StrJoin(results, ", ",
                                      [](std::string* out, const auto& item) {
                                        absl::StrAppend(out, YamlQuoted(item));
                                      }),
                        "]");
  }
  if (!results.empty()) return YamlScalar(results.front());
  const std::string value = option.get_default_str();
  return value.empty() || !default_also ? "" : YamlScalar(value);
}

}  // namespace

std::vector<CLI::ConfigItem> YamlConfig::from_config(std::istream& input) const {
  const auto file = app_.get_config_ptr()->as<std::string>();
  const auto entries = ReadFlatYaml(input, file);
  if (!entries.ok()) throw CLI::FileError(std::string(entries.status().message()));
  const auto options = OptionsByKey(app_);
  std::map<const CLI::Option*, int> lines;
  std::vector<CLI::ConfigItem> items;
  for (const YamlEntry& entry : *entries) {
    std::string name = entry.key;
    std::ranges::replace(name, '_', '-');
    CLI::Option& option = FindOption(options, entry, name, app_, file);
    if (const auto [first, is_first] = lines.emplace(&option, entry.line); !is_first) {
      Fail(file, entry.line, entry.key, absl::StrCat("set already in line ", first->second));
    }
    if (entry.is_list && (!IsList(option) || entry.values.empty())) {
      Fail(file, entry.line, entry.key,
           IsList(option) ? "the list is empty; leave the key out" : "takes one value, not a list");
    }
    std::vector<std::string> values = entry.values;
    if (absl::Status status = CheckValues(option, values); !status.ok()) {
      Fail(file, entry.line, entry.key, std::string(status.message()));
    }
    items.push_back({.parents = {}, .name = name, .inputs = std::move(values)});
  }
  return items;
}

std::string YamlConfig::to_config(const CLI::App* app, bool default_also,
                                  bool /*write_description*/, std::string /*prefix*/) const {
  std::string text;
  for (const CLI::Option* option : app->get_options()) {
    if (!option->get_configurable() || option->get_lnames().empty()) continue;
    const std::string value = WrittenValue(*option, default_also);
    if (!value.empty()) {
      absl::StrAppend(&text, option->get_single_name(), ": ", value, "\n");
    } else if (default_also) {
      absl::StrAppend(&text, "# ", option->get_single_name(), ":\n");
    }
  }
  return text;
}

}  // namespace strata::config
