#include "common/config/option_value.h"

#include <exception>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace strata::config {
namespace {

absl::Status NormalizeFlag(std::string& value) {
  const std::string lower = absl::AsciiStrToLower(value);
  for (std::string_view yes : {"true", "yes", "on", "1"}) {
    if (lower == yes) {
      value = "true";
      return absl::OkStatus();
    }
  }
  for (std::string_view no : {"false", "no", "off", "0"}) {
    if (lower == no) {
      value = "false";
      return absl::OkStatus();
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("Value ", absl::Utf8SafeCEscape(value), " is not true or false"));
}

// What CLI11 finds wrong with the value, without the option's name ahead of it.
absl::Status Reworded(const CLI::Option& option, const std::vector<std::string>& values,
                      std::string_view what) {
  if (const std::string name = option.get_name() + ": "; what.starts_with(name)) {
    what.remove_prefix(name.size());
  }
  std::string message(what);
  // Some of its messages leave out the value.
  if (values.size() == 1 && message.find(values.front()) == std::string::npos) {
    message = absl::StrCat("Value ", values.front(), ": ", message);
  }
  return absl::InvalidArgumentError(absl::Utf8SafeCEscape(message));
}

}  // namespace

std::vector<CLI::Option*> ConfigurableOptions(CLI::App& app) {
  return app.get_options([](CLI::Option* option) {
    return option->get_configurable() && !option->get_lnames().empty();
  });
}

bool IsFlag(const CLI::Option& option) { return option.get_items_expected_max() == 0; }

bool IsList(const CLI::Option& option) { return option.get_items_expected_max() > 1; }

absl::Status CheckValues(CLI::Option& option, std::vector<std::string>& values) {
  for (const std::string& value : values) {
    // Would end the value early where it is handed to the system.
    if (value.find('\0') != std::string::npos) {
      return absl::InvalidArgumentError("the value holds a NUL character");
    }
  }
  if (IsFlag(option)) return NormalizeFlag(values.front());
  const std::vector<std::string> kept = option.results();
  absl::Status status;
  option.clear();
  try {
    option.add_result(values);
    option.run_callback();
  } catch (const std::exception& error) {
    status = Reworded(option, values, error.what());
  }
  option.clear();
  for (const std::string& result : kept) option.add_result(result);
  return status;
}

}  // namespace strata::config
