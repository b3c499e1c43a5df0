#ifndef STRATA_COMMON_TOKENIZER_JSON_H_
#define STRATA_COMMON_TOKENIZER_JSON_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace strata::tokenizer {

using Json = nlohmann::json;

// Checked access to a parsed file: never throws, never aborts. `where` names the
// object in messages, for example "normalizer".

// Reads and parses. NOT_FOUND if the file is missing, INVALID_ARGUMENT if it is
// not JSON, nested deeper than 64 levels, or larger than 1 GiB.
absl::StatusOr<Json> ReadJsonFile(const std::string& path);

// The member, or nullptr if `object` is no object, or lacks it, or has it as null.
const Json* Find(const Json& object, const char* key);

// The member as bool; `fallback` if it is absent.
absl::StatusOr<bool> BoolOr(const Json& object, const char* key, bool fallback,
                            absl::string_view where);
// The member as string; an absent one is an error unless a fallback is given.
absl::StatusOr<std::string> String(const Json& object, const char* key, absl::string_view where);
absl::StatusOr<std::string> StringOr(const Json& object, const char* key, std::string fallback,
                                     absl::string_view where);
// A token id: an integer in [0, 2^31).
absl::StatusOr<int32_t> Id(const Json& value, absl::string_view where);

}  // namespace strata::tokenizer

#endif  // STRATA_COMMON_TOKENIZER_JSON_H_
