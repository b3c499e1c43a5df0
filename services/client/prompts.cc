#include "services/client/prompts.h"

#include <cerrno>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/tokenizer/utf8.h"

namespace strata::client {
namespace {

absl::StatusOr<std::string> ReadStream(std::istream& in, const std::string& name) {
  std::string text;
  char buffer[1 << 16];
  while (in.read(buffer, sizeof(buffer)), in.gcount() > 0) {
    text.append(buffer, static_cast<size_t>(in.gcount()));
    if (text.size() > kMaxPromptBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, " is longer than ", kMaxPromptBytes, " bytes"));
    }
  }
  if (in.bad()) return absl::ErrnoToStatus(errno, absl::StrCat("cannot read ", name));
  return text;
}

absl::StatusOr<BenchPrompt> ParseRow(const std::string& line) {
  const nlohmann::json row = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!row.is_object()) return absl::InvalidArgumentError("it is not a JSON object");
  if (const auto it = row.find("prompt"); it != row.end() && it->is_string()) {
    return BenchPrompt{it->get<std::string>(), false};
  }
  if (const auto it = row.find("turns");
      it != row.end() && it->is_array() && !it->empty() && it->front().is_string()) {
    return BenchPrompt{it->front().get<std::string>(), true};
  }
  return absl::InvalidArgumentError(
      "it has neither a string 'prompt' nor a list 'turns' that starts with a string");
}

}  // namespace

absl::StatusOr<std::string> ReadText(const std::string& path) {
  if (path == "-") return ReadStream(std::cin, "standard input");
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  if (!in) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open '", path, "'"));
  // A folder opens, but does not read.
  in.peek();
  if (in.bad()) return absl::ErrnoToStatus(errno, absl::StrCat("cannot read '", path, "'"));
  in.clear();
  return ReadStream(in, absl::StrCat("'", path, "'"));
}

absl::Status CheckUtf8(const std::string& what, const std::string& text) {
  const size_t valid = tokenizer::ValidUtf8Prefix(text);
  if (valid == text.size()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      what, " is not UTF-8: byte ", valid, " of ", text.size(), " (from 0) is 0x",
      absl::Hex(static_cast<unsigned char>(text[valid])), " and part of no character"));
}

absl::StatusOr<std::vector<BenchPrompt>> ReadPrompts(const std::string& path, size_t limit) {
  auto text = ReadText(path);
  if (!text.ok()) return text.status();
  if (auto status = CheckUtf8(absl::StrCat("'", path, "'"), *text); !status.ok()) return status;
  const bool rows = absl::EndsWith(path, ".jsonl");
  std::vector<BenchPrompt> prompts;
  size_t line_number = 0;
  for (size_t begin = 0; begin < text->size();) {
    size_t end = text->find('\n', begin);
    if (end == std::string::npos) end = text->size();
    std::string line = text->substr(begin, end - begin);
    begin = end + 1;
    ++line_number;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty()) continue;
    if (limit > 0 && prompts.size() == limit) break;
    if (!rows) {
      prompts.push_back({std::move(line), false});
      continue;
    }
    auto prompt = ParseRow(line);
    if (!prompt.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", path, "', line ", line_number, ": ", prompt.status().message()));
    }
    prompts.push_back(*std::move(prompt));
  }
  if (prompts.empty()) return absl::InvalidArgumentError(absl::StrCat("'", path, "' is empty"));
  return prompts;
}

}  // namespace strata::client
