#include "common/tokenizer/json.h"

#include <filesystem>
#include <fstream>
#include <limits>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"

namespace strata::tokenizer {
namespace {

// Our builders recurse along nested components; real files have about 5 levels.
constexpr int kMaxDepth = 64;
constexpr uintmax_t kMaxBytes = uintmax_t{1} << 30;

absl::Status WrongType(absl::string_view where, const char* key, const char* wanted,
                       const Json& got) {
  return absl::InvalidArgumentError(
      absl::StrCat(where, ".", key, " must be ", wanted, ", not ", got.type_name()));
}

}  // namespace

absl::StatusOr<Json> ReadJsonFile(const std::string& path) {
  std::error_code error;
  const auto file_status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(file_status)) {
    return absl::NotFoundError(absl::StrCat("there is no file ", path));
  }
  if (!std::filesystem::is_regular_file(file_status)) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a file"));
  }
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (!error && size > kMaxBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " has ", size, " bytes; at most ", kMaxBytes, " are read"));
  }
  std::ifstream in(path, std::ios::binary);
  if (!in) return absl::NotFoundError(absl::StrCat("cannot open ", path));
  bool too_deep = false;
  const Json::parser_callback_t guard = [&too_deep](int depth, Json::parse_event_t, Json&) {
    too_deep = too_deep || depth > kMaxDepth;
    return !too_deep;
  };
  Json json = Json::parse(in, guard, /*allow_exceptions=*/false);
  if (too_deep) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is nested deeper than ", kMaxDepth, " levels"));
  }
  if (json.is_discarded()) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is not valid JSON (truncated?)"));
  }
  return json;
}

const Json* Find(const Json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(key);
  if (it == object.end() || it->is_null()) return nullptr;
  return &*it;
}

absl::StatusOr<bool> BoolOr(const Json& object, const char* key, bool fallback,
                            absl::string_view where) {
  const Json* value = Find(object, key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) return WrongType(where, key, "true or false", *value);
  return value->get<bool>();
}

absl::StatusOr<std::string> String(const Json& object, const char* key, absl::string_view where) {
  const Json* value = Find(object, key);
  if (value == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(where, " lacks \"", key, "\""));
  }
  if (!value->is_string()) return WrongType(where, key, "a string", *value);
  return value->get<std::string>();
}

absl::StatusOr<std::string> StringOr(const Json& object, const char* key, std::string fallback,
                                     absl::string_view where) {
  if (Find(object, key) == nullptr) return fallback;
  return String(object, key, where);
}

absl::StatusOr<int32_t> Id(const Json& value, absl::string_view where) {
  constexpr uint64_t kMax = std::numeric_limits<int32_t>::max();
  if (!value.is_number_unsigned() || value.get<uint64_t>() >= kMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, " must be a token id in [0, ", kMax, ")"));
  }
  return static_cast<int32_t>(value.get<uint64_t>());
}

}  // namespace strata::tokenizer
