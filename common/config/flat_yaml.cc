#include "common/config/flat_yaml.h"

#include <yaml-cpp/emitter.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <sstream>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/tokenizer/utf8.h"

namespace strata::config {
namespace {

// Far more than all options of a service take.
constexpr size_t kMaxFileBytes = 64 << 10;

// Takes the parser's events instead of a tree of nodes: what is not flat is refused at once, with
// its line, however deep or often repeated it is. Errors leave the parser as its own exceptions.
class FlatMapHandler : public YAML::EventHandler {
 public:
  std::vector<YamlEntry> TakeEntries() { return std::move(entries_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) Fail(mark, "the file must hold one YAML document, and here is another");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    CheckPlain(mark, "", anchor);
    switch (state_) {
      case State::kDocument:
        return;
      case State::kKey:
        Fail(mark, "a key is missing");
      case State::kValue:
      case State::kList:
        // Not at `mark`: that is where the next thing begins.
        Fail(key_mark_,
             absl::StrCat("'", entries_.back().key,
                          "' has no value; leave the key out, or write \"\" for an empty one"));
    }
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    Fail(mark, "YAML anchors and aliases cannot be used here");
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    CheckPlain(mark, tag, anchor);
    switch (state_) {
      case State::kDocument:
        Fail(mark, "the file must consist of lines 'key: value'");
      case State::kKey:
        key_mark_ = mark;
        entries_.push_back({.key = value, .values = {}, .line = mark.line + 1});
        state_ = State::kValue;
        return;
      case State::kValue:
        entries_.back().values.push_back(value);
        state_ = State::kKey;
        return;
      case State::kList:
        entries_.back().values.push_back(value);
        return;
    }
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    CheckPlain(mark, tag, anchor);
    if (state_ == State::kDocument) Fail(mark, "the file must consist of lines 'key: value'");
    if (state_ == State::kKey) Fail(mark, "a list cannot be a key");
    if (state_ == State::kList) Fail(mark, NotNested("a list within its list"));
    entries_.back().is_list = true;
    state_ = State::kList;
  }
  void OnSequenceEnd() override { state_ = State::kKey; }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    CheckPlain(mark, tag, anchor);
    if (state_ == State::kKey) Fail(mark, "a map cannot be a key");
    if (state_ != State::kDocument) Fail(mark, NotNested("a map of its own"));
    state_ = State::kKey;
  }
  void OnMapEnd() override { state_ = State::kDocument; }

 private:
  // What comes next.
  enum class State { kDocument, kKey, kValue, kList };

  [[noreturn]] static void Fail(const YAML::Mark& mark, const std::string& message) {
    throw YAML::ParserException(mark, message);
  }

  std::string NotNested(const std::string& what) const {
    return absl::StrCat("'", entries_.back().key, "' has ", what,
                        ", but settings are not nested: each is a line 'key: value'");
  }

  static void CheckPlain(const YAML::Mark& mark, std::string_view tag, YAML::anchor_t anchor) {
    if (anchor != 0) Fail(mark, "YAML anchors and aliases cannot be used here");
    // The parser's own marks for "no tag": plain and quoted.
    if (!tag.empty() && tag != "?" && tag != "!") Fail(mark, "YAML tags cannot be used here");
  }

  int documents_ = 0;
  State state_ = State::kDocument;
  YAML::Mark key_mark_;
  std::vector<YamlEntry> entries_;
};

absl::StatusOr<std::string> ReadAll(std::istream& input) {
  std::string text(kMaxFileBytes + 1, '\0');
  input.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(input.gcount()));
  if (input.bad()) return absl::DataLossError("cannot be read");
  if (text.size() > kMaxFileBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("is longer than ", kMaxFileBytes, " bytes, and so no configuration"));
  }
  if (!IsUtf8(text)) return absl::InvalidArgumentError("is not UTF-8 text");
  if (text.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError("holds a NUL byte, and so is no text");
  }
  return text;
}

}  // namespace

bool IsUtf8(std::string_view text) { return tokenizer::ValidUtf8Prefix(text) == text.size(); }

absl::StatusOr<std::vector<YamlEntry>> ReadFlatYaml(std::istream& input, const std::string& name) {
  const auto text = ReadAll(input);
  if (!text.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": ", text.status().message()));
  }
  FlatMapHandler handler;
  try {
    std::istringstream stream(*text);
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(handler)) {
    }
  } catch (const YAML::Exception& error) {
    const std::string line = error.mark.is_null() ? "" : absl::StrCat(":", error.mark.line + 1);
    return absl::InvalidArgumentError(absl::StrCat(name, line, ": ", error.msg));
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": ", error.what()));
  }
  return handler.TakeEntries();
}

std::string YamlScalar(const std::string& text) {
  // Stricter than the emitter, which leaves out quotes that its parser needs (as for "(a,b:").
  const auto is_plain = [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
           std::string_view("_-+./:@").find(c) != std::string_view::npos;
  };
  const bool plain = !text.empty() && std::ranges::all_of(text, is_plain) &&
                     std::string_view("-:@").find(text.front()) == std::string_view::npos &&
                     text.back() != ':' && !absl::EqualsIgnoreCase(text, "null");
  return plain ? text : YamlQuoted(text);
}

std::string YamlQuoted(const std::string& text) {
  YAML::Emitter emitter;
  emitter << YAML::DoubleQuoted << text;
  return emitter.c_str();
}

}  // namespace strata::config
