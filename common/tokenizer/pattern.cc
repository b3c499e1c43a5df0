#include "common/tokenizer/pattern.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace strata::tokenizer {

absl::StatusOr<Regex> ParsePattern(const Json& component, absl::string_view where) {
  const Json* pattern = Find(component, "pattern");
  if (pattern != nullptr && pattern->is_object() && pattern->size() == 1) {
    if (const Json* text = Find(*pattern, "String"); text != nullptr && text->is_string()) {
      return Regex::Literal(text->get_ref<const std::string&>());
    }
    if (const Json* regex = Find(*pattern, "Regex"); regex != nullptr && regex->is_string()) {
      return Regex::Compile(regex->get_ref<const std::string&>());
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat(where, ".pattern must be {\"String\": text} or {\"Regex\": text}"));
}

absl::StatusOr<Replacement> Replacement::Create(const Json& config, absl::string_view where) {
  auto regex = ParsePattern(config, where);
  if (!regex.ok()) return regex.status();
  auto content = String(config, "content", where);
  if (!content.ok()) return content.status();
  std::string literal;
  if (const Json* text = Find(*Find(config, "pattern"), "String"); text != nullptr) {
    literal = text->get<std::string>();
  }
  return Replacement(std::move(literal), *std::move(regex), *std::move(content));
}

std::string Replacement::Apply(std::string_view text) const {
  std::string out;
  out.reserve(text.size() + text.size() / 2);
  if (!literal_.empty()) {
    size_t from = 0;
    for (size_t at; (at = text.find(literal_, from)) != std::string_view::npos;) {
      out.append(text.substr(from, at - from)).append(content_);
      from = at + literal_.size();
    }
    out.append(text.substr(from));
    return out;
  }
  std::vector<Span> spans;
  regex_.Split(text, &spans);
  for (const Span& span : spans) {
    out.append(span.match ? std::string_view(content_)
                          : text.substr(span.begin, span.end - span.begin));
  }
  return out;
}

}  // namespace strata::tokenizer
