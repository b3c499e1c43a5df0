#include "services/draft/corpus/document_reader.h"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/tokenizer/utf8.h"
#include "services/draft/corpus/byte_source.h"

namespace strata::draft {
namespace {

constexpr size_t kReadBytes = 256 << 10;
constexpr size_t kBinaryProbeBytes = 8 << 10;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// Where to cut text that is longer than `limit`: behind the last line feed, else
// ahead of a character.
size_t CutPoint(std::string_view text, size_t limit) {
  const size_t line_feed = text.rfind('\n', limit - 1);
  if (line_feed != text.npos) return line_feed + 1;
  size_t cut = limit;
  const auto continues = [&](size_t i) { return (static_cast<uint8_t>(text[i]) & 0xC0) == 0x80; };
  // A character has at most three continuation bytes; more are not UTF-8 anyway.
  while (cut > 1 && limit - cut < 3 && continues(cut)) --cut;
  return cut;
}

// Hands over what is longer than a piece; returns whether anything was.
absl::Status EmitPieces(std::string& text, size_t limit, DocumentSink sink, bool& continues) {
  size_t begin = 0;
  while (text.size() - begin > limit) {
    const size_t cut = CutPoint(std::string_view(text).substr(begin), limit);
    absl::Status status = sink(text.substr(begin, cut), continues);
    if (!status.ok()) return status;
    continues = true;
    begin += cut;
  }
  text.erase(0, begin);
  return absl::OkStatus();
}

absl::Status EmitDocument(std::string text, size_t limit, DocumentSink sink, bool continues) {
  absl::Status status = EmitPieces(text, limit, sink, continues);
  if (!status.ok() || text.empty()) return status;
  return sink(std::move(text), continues);
}

// Replaces escapes of lone surrogates, which Python writes and JSON libraries refuse,
// by U+FFFD. Anything else stays as it is.
std::string RepairSurrogates(std::string_view json) {
  const auto unit = [json](size_t at) -> int {
    if (json.size() - at < 6 || json[at] != '\\' || json[at + 1] != 'u') return -1;
    int value = 0;
    for (char c : json.substr(at + 2, 4)) {
      if (!absl::ascii_isxdigit(static_cast<unsigned char>(c))) return -1;
      value = value * 16 + (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return value;
  };
  std::string out;
  for (size_t at = 0; at < json.size();) {
    if (json[at] != '\\') {
      out.push_back(json[at++]);
      continue;
    }
    const int first = unit(at);
    size_t length = std::min<size_t>(first < 0 ? 2 : 6, json.size() - at);
    std::string_view written = json.substr(at, length);
    if (first >= 0xD800 && first < 0xE000) {
      const int second = first < 0xDC00 ? unit(at + 6) : -1;
      if (second >= 0xDC00 && second < 0xE000) {
        length = 12;
        written = json.substr(at, length);
      } else {
        written = "\\ufffd";
      }
    }
    out.append(written);
    at += length;
  }
  return out;
}

// The text of a jsonl line, or what is wrong with it.
absl::Status ParseLine(std::string_view line, const std::string& field, std::string& text) {
  std::string valid;
  if (tokenizer::ValidUtf8Prefix(line) != line.size()) {
    tokenizer::AppendLossyUtf8(line, &valid);
    line = valid;
  }
  nlohmann::json json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) {
    json = nlohmann::json::parse(RepairSurrogates(line), nullptr, /*allow_exceptions=*/false);
  }
  if (json.is_discarded()) return absl::InvalidArgumentError("it is not JSON");
  if (!json.is_object()) return absl::InvalidArgumentError("it is not a JSON object");
  const auto member = json.find(field);
  if (member == json.end()) {
    return absl::InvalidArgumentError(absl::StrCat("it has no member \"", field, "\""));
  }
  if (!member->is_string()) {
    return absl::InvalidArgumentError(absl::StrCat("its member \"", field, "\" is not a string"));
  }
  text = std::move(member->get_ref<std::string&>());
  return absl::OkStatus();
}

// Splits what it is fed into lines.
class JsonlParser {
 public:
  JsonlParser(const InputFile& file, const ReadOptions& options, DocumentSink sink,
              ReadCounts& counts)
      : file_(file), options_(options), sink_(sink), counts_(counts) {}

  absl::Status Feed(std::string_view bytes) {
    for (size_t end; (end = bytes.find('\n')) != bytes.npos; bytes.remove_prefix(end + 1)) {
      Extend(bytes.substr(0, end));
      absl::Status status = Line();
      if (!status.ok()) return status;
    }
    Extend(bytes);
    return absl::OkStatus();
  }
  absl::Status Finish() { return Line(); }

 private:
  void Extend(std::string_view part) {
    too_long_ = too_long_ || part.size() > options_.max_line_bytes - line_.size();
    if (!too_long_) line_.append(part);
  }

  absl::Status Line() {
    ++number_;
    std::string text;
    absl::Status status;
    std::string_view line = line_;
    if (number_ == 1 && line.starts_with(kByteOrderMark)) line.remove_prefix(kByteOrderMark.size());
    if (too_long_) {
      status = absl::InvalidArgumentError(
          absl::StrCat("it has more than ", options_.max_line_bytes, " bytes"));
    } else if (line.find_first_not_of(" \t\r") != line.npos) {
      status = ParseLine(line, options_.field, text);
    }
    line_.clear();
    too_long_ = false;
    if (status.ok()) return EmitDocument(std::move(text), options_.max_piece_bytes, sink_, false);
    if (options_.skip_invalid_lines) {
      ++counts_.skipped_lines;
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(
        absl::StrCat(file_.path, ", line ", number_, ": ", status.message()));
  }

  const InputFile& file_;
  const ReadOptions& options_;
  DocumentSink sink_;
  ReadCounts& counts_;
  std::string line_;
  bool too_long_ = false;
  uint64_t number_ = 0;
};

}  // namespace

absl::Status ReadDocuments(const InputFile& file, const ReadOptions& options, DocumentSink sink,
                           absl::FunctionRef<void(uint64_t)> file_bytes, ReadCounts& counts) {
  auto source = OpenByteSource(file.path);
  if (!source.ok()) return source.status();
  std::string_view stem;
  CompressionOf(file.path, stem);
  const bool jsonl = stem.ends_with(".jsonl") || stem.ends_with(".ndjson");
  JsonlParser parser(file, options, sink, counts);
  std::vector<char> buffer(kReadBytes);
  std::string text;
  bool continues = false;
  bool probed = false;
  for (bool more = true; more;) {
    auto got = (*source)->Read(buffer);
    if (!got.ok()) return got.status();
    file_bytes((*source)->file_bytes_read());
    more = *got > 0;
    if (jsonl) {
      absl::Status status = more ? parser.Feed({buffer.data(), *got}) : parser.Finish();
      if (!status.ok()) return status;
      continue;
    }
    text.append(buffer.data(), *got);
    // The first 8 KiB decide, whatever the sizes of the reads.
    if (!probed && (text.size() >= kBinaryProbeBytes || !more)) {
      probed = true;
      if (std::string_view(text).substr(0, kBinaryProbeBytes).find('\0') != text.npos) {
        if (file.named) {
          return absl::InvalidArgumentError(
              absl::StrCat(file.path, " is not text: it has a NUL byte in its first 8 KiB"));
        }
        ++counts.skipped_binary_files;
        return absl::OkStatus();
      }
      if (text.starts_with(kByteOrderMark)) text.erase(0, kByteOrderMark.size());
    }
    if (probed) {
      absl::Status status = EmitPieces(text, options.max_piece_bytes, sink, continues);
      if (!status.ok()) return status;
    }
  }
  if (jsonl || text.empty()) return absl::OkStatus();
  return sink(std::move(text), continues);
}

}  // namespace strata::draft
