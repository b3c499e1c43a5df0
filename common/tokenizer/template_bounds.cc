#include "common/tokenizer/template_bounds.h"

#include <algorithm>
#include <cstddef>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace strata::tokenizer {
namespace {

constexpr size_t kMaxBytes = 256 << 10;
constexpr size_t kMaxSpaces = 1 << 10;
constexpr size_t kMaxTags = 1024;
// Of one tag, besides what its strings hold.
constexpr size_t kMaxTagBytes = 2 << 10;
constexpr size_t kMaxDepth = 64;

class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  absl::StatusOr<std::string> Run() {
    if (text_.size() > kMaxBytes) return TooMuch("the template", "bytes", text_.size(), kMaxBytes);
    while (at_ < text_.size()) {
      const std::string_view rest = text_.substr(at_);
      absl::Status status;
      if (rest.starts_with("{#")) {
        Comment();
      } else if (rest.starts_with("{{") || rest.starts_with("{%")) {
        status = Tag();
      } else {
        status = Text();
      }
      if (!status.ok()) return status;
    }
    out_ += text_.substr(copied_);
    return out_;
  }

 private:
  absl::Status TooMuch(const char* what, const char* unit, size_t is, size_t allowed) const {
    const auto line =
        1 + std::count(text_.begin(), text_.begin() + std::min(at_, text_.size()), '\n');
    return absl::InvalidArgumentError(absl::StrCat("line ", line, ": ", what, " has ", is, " ",
                                                   unit, ", at most ", allowed, " are allowed"));
  }

  absl::Status Text() {
    if (absl::ascii_isspace(text_[at_++])) {
      if (++spaces_ > kMaxSpaces)
        return TooMuch("a stretch of white space", "bytes", spaces_, kMaxSpaces);
    } else {
      spaces_ = 0;
    }
    return absl::OkStatus();
  }

  // Copies nothing of it but the marks at its ends that take white space away.
  void Comment() {
    spaces_ = 0;
    out_ += text_.substr(copied_, at_ + 2 - copied_);
    const size_t begin = at_ + 2;
    const size_t end = std::min(text_.find("#}", begin), text_.size());
    const std::string_view said = text_.substr(begin, end - begin);
    const auto is_mark = [](char c) { return c == '-' || c == '~'; };
    if (!said.empty() && is_mark(said.front())) out_ += said.front();
    if (said.size() > 1 && is_mark(said.back())) out_ += said.back();
    copied_ = end;
    at_ = end + 2;
  }

  // From "{{" or "{%" to its end, which is not looked for in strings and brackets. One that never
  // ends is for the parser to report.
  absl::Status Tag() {
    spaces_ = 0;
    if (++tags_ > kMaxTags) return TooMuch("the template", "tags", tags_, kMaxTags);
    const bool block = text_[at_ + 1] == '%';
    const std::string_view end = block ? "%}" : "}}";
    at_ += 2;
    std::string code;
    size_t depth = 0;
    while (at_ < text_.size() && !(depth == 0 && text_.substr(at_).starts_with(end))) {
      const char c = text_[at_];
      if (c == '"' || c == '\'') {
        SkipString(c);
        code += ' ';
      } else {
        if (c == '(' || c == '[' || c == '{') ++depth;
        if (depth > 0 && (c == ')' || c == ']' || c == '}')) --depth;
        code += c;
        ++at_;
      }
      if (depth > kMaxDepth) return TooMuch("a tag", "levels of brackets", depth, kMaxDepth);
      if (code.size() > kMaxTagBytes) {
        return TooMuch("a tag", "bytes outside of strings", code.size(), kMaxTagBytes);
      }
    }
    at_ += end.size();
    return block ? Block(code) : absl::OkStatus();
  }

  void SkipString(char quote) {
    for (++at_; at_ < text_.size() && text_[at_] != quote; ++at_) {
      if (text_[at_] == '\\') ++at_;
    }
    ++at_;
  }

  // Follows how deep blocks nest.
  absl::Status Block(std::string_view code) {
    const size_t first = std::min(code.find_first_not_of("-+~ \t\r\n"), code.size());
    size_t last = first;
    while (last < code.size() && absl::ascii_isalpha(code[last])) ++last;
    const std::string_view keyword = code.substr(first, last - first);
    if (keyword.starts_with("end")) {
      if (blocks_ > 0) --blocks_;
    } else if (keyword == "if" || keyword == "for" || keyword == "macro" || keyword == "filter" ||
               keyword == "call" || keyword == "block" || keyword == "generation" ||
               (keyword == "set" && code.find('=') == std::string_view::npos)) {
      if (++blocks_ > kMaxDepth)
        return TooMuch("the template", "levels of blocks", blocks_, kMaxDepth);
    }
    return absl::OkStatus();
  }

  const std::string_view text_;
  size_t at_ = 0;
  // The result for what comes before copied_.
  std::string out_;
  size_t copied_ = 0;
  size_t spaces_ = 0;
  size_t tags_ = 0;
  size_t blocks_ = 0;
};

}  // namespace

absl::StatusOr<std::string> BoundTemplate(std::string_view text) { return Scanner(text).Run(); }

}  // namespace strata::tokenizer
