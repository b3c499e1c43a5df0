#ifndef STRATA_COMMON_CONFIG_FLAT_YAML_H_
#define STRATA_COMMON_CONFIG_FLAT_YAML_H_

#include <istream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace strata::config {

// One `key: value` or `key: [value, …]` of a file.
struct YamlEntry {
  std::string key;
  std::vector<std::string> values;
  bool is_list = false;
  // Of the key, from 1.
  int line = 0;
};

// Reads a YAML document that is a map of scalars and lists of scalars, in the file's order; an
// empty document is an empty map. Scalars are taken as they are written: nothing is guessed to be
// a number or a date. Nesting, anchors, aliases, tags, null values and further documents are
// errors, as are more than 64 KiB and what is not UTF-8. Keys are not compared. Errors begin with
// "FILE:LINE: " or "FILE: ", with `name` for FILE.
absl::StatusOr<std::vector<YamlEntry>> ReadFlatYaml(std::istream& input, const std::string& name);

// A scalar for a line "key: scalar" of YAML, quoted if it must be. ReadFlatYaml() reads it as
// the same. `text` must be UTF-8.
std::string YamlScalar(const std::string& text);

// The same in double quotes, as it must be within brackets.
std::string YamlQuoted(const std::string& text);

// True if YAML can hold the text.
bool IsUtf8(std::string_view text);

}  // namespace strata::config

#endif  // STRATA_COMMON_CONFIG_FLAT_YAML_H_
