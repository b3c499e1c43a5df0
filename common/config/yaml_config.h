#ifndef STRATA_COMMON_CONFIG_YAML_CONFIG_H_
#define STRATA_COMMON_CONFIG_YAML_CONFIG_H_

#include <CLI/CLI.hpp>
#include <istream>
#include <string>
#include <vector>

namespace strata::config {

// CLI11's seam for configuration files, for YAML: one "key: value" a line, the keys are the long
// names of the options without dashes ahead; kv_tokens is kv-tokens too. An option that may be
// given more than once takes a list.
class YamlConfig : public CLI::Config {
 public:
  // The options that the file may set are those of `app`, which must live longer.
  explicit YamlConfig(CLI::App* app) : app_(*app) {}

  // Throws CLI::FileError, which CLI11 holds back until --help and --version have had their turn,
  // for what is not YAML, for unknown keys (the error names the nearest known one), for options
  // that are set twice and for values that an option does not take, also where the command line
  // sets another.
  std::vector<CLI::ConfigItem> from_config(std::istream& input) const override;

  // The options of `app` in the order in which they were declared, with their values or
  // (`default_also`) defaults; those that have neither are comments. Read back it gives the same
  // values. Throws CLI::ValidationError for a value that is not UTF-8. Descriptions and `prefix`
  // are not written.
  std::string to_config(const CLI::App* app, bool default_also, bool write_description,
                        std::string prefix) const override;

 private:
  CLI::App& app_;
};

}  // namespace strata::config

#endif  // STRATA_COMMON_CONFIG_YAML_CONFIG_H_
