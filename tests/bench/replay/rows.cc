#include "tests/bench/replay/rows.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace strata::replay {
namespace {

using Json = nlohmann::json;

absl::Status ParseTokens(const Json& list, const std::string& what, int64_t vocab_size,
                         std::vector<TokenId>& out) {
  if (!list.is_array()) return absl::InvalidArgumentError(absl::StrCat(what, " is not a list"));
  out.reserve(list.size());
  for (size_t i = 0; i < list.size(); ++i) {
    const Json& id = list[i];
    if (!id.is_number_integer()) {
      return absl::InvalidArgumentError(
          absl::StrCat(what, "[", i, "] is no token id, but ", id.type_name()));
    }
    // Ids above INT64_MAX would wrap to negative ones, which are refused too.
    const auto token = id.get<int64_t>();
    if (token < 0 || token >= vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat(what, "[", i, "] is ", id.dump(),
                                                     ", outside the model's vocabulary of ",
                                                     vocab_size, " tokens"));
    }
    out.push_back(static_cast<TokenId>(token));
  }
  return absl::OkStatus();
}

absl::Status ParseMember(const Json& object, const char* key, bool required, int64_t vocab_size,
                         std::vector<TokenId>& out) {
  const auto it = object.find(key);
  if (it != object.end()) return ParseTokens(*it, key, vocab_size, out);
  if (!required) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("there is no ", key));
}

absl::Status ParseRankings(const Json& object, int64_t vocab_size, Row& row) {
  const auto it = object.find("top");
  if (it == object.end()) return absl::OkStatus();
  if (!it->is_array()) return absl::InvalidArgumentError("top is not a list");
  if (it->size() > row.output.size()) {
    return absl::InvalidArgumentError(absl::StrCat("top has ", it->size(), " rankings for ",
                                                   row.output.size(), " output_tokens"));
  }
  for (size_t j = 0; j < it->size(); ++j) {
    const std::string what = absl::StrCat("top[", j, "]");
    absl::Status status = ParseTokens((*it)[j], what, vocab_size, row.rankings.emplace_back());
    if (!status.ok()) return status;
    if (row.rankings.back().size() > RowRanking::kMaxTokens) {
      return absl::InvalidArgumentError(absl::StrCat(what, " has ", row.rankings.back().size(),
                                                     " tokens, at most ", RowRanking::kMaxTokens,
                                                     " are allowed"));
    }
  }
  return absl::OkStatus();
}

absl::Status ParseRow(const std::string& line, int64_t vocab_size, Row& row) {
  const Json object = Json::parse(line, /*cb=*/nullptr, /*allow_exceptions=*/false);
  if (object.is_discarded()) return absl::InvalidArgumentError("it is not JSON");
  if (!object.is_object()) return absl::InvalidArgumentError("it is not a JSON object");
  const auto category = object.find("category");
  if (category == object.end() || !category->is_string()) {
    return absl::InvalidArgumentError("there is no category, or it is not a string");
  }
  row.category = category->get<std::string>();
  absl::Status status = ParseMember(object, "prompt_tokens", true, vocab_size, row.prompt);
  status.Update(ParseMember(object, "output_tokens", true, vocab_size, row.output));
  status.Update(ParseMember(object, "predicted_tokens", false, vocab_size, row.predicted));
  status.Update(ParseRankings(object, vocab_size, row));
  if (status.ok() && row.prompt.empty()) {
    return absl::InvalidArgumentError("prompt_tokens is empty");
  }
  return status;
}

}  // namespace

absl::StatusOr<std::vector<Row>> ReadRows(std::istream& in, const std::string& name,
                                          int64_t vocab_size) {
  std::vector<Row> rows;
  std::string line;
  for (int64_t number = 1; std::getline(in, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    absl::Status status = ParseRow(line, vocab_size, rows.emplace_back());
    if (!status.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, " line ", number, ": ", status.message()));
    }
  }
  if (in.bad()) return absl::DataLossError(absl::StrCat("cannot read all of ", name));
  if (rows.empty()) return absl::InvalidArgumentError(absl::StrCat(name, " has no rows"));
  return rows;
}

absl::StatusOr<std::vector<Row>> LoadRows(const std::string& path, int64_t vocab_size) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is a folder, not a file of rows"));
  }
  std::ifstream in(path, std::ios::binary);
  if (!in) return absl::NotFoundError(absl::StrCat("cannot open ", path, ": ", strerror(errno)));
  return ReadRows(in, path, vocab_size);
}

}  // namespace strata::replay
