#include "common/tokenizer/added_vocabulary.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/tokenizer/strings.h"
#include "common/tokenizer/unicode.h"
#include "common/tokenizer/utf8.h"

namespace strata::tokenizer {
namespace {

bool EndsWithWordChar(std::string_view text) {
  if (text.empty()) return false;
  size_t pos = PreviousUtf8(text, text.size());
  return IsWordChar(DecodeUtf8(text, &pos));
}

bool StartsWithWordChar(std::string_view text) {
  size_t pos = 0;
  return !text.empty() && IsWordChar(DecodeUtf8(text, &pos));
}

size_t TrailingSpaceBegin(std::string_view text) {
  size_t begin = text.size();
  while (begin > 0) {
    const size_t previous = PreviousUtf8(text, begin);
    size_t pos = previous;
    if (!IsWhiteSpace(DecodeUtf8(text, &pos))) break;
    begin = previous;
  }
  return begin;
}

size_t LeadingSpaceEnd(std::string_view text) {
  size_t end = 0;
  while (end < text.size()) {
    size_t pos = end;
    if (!IsWhiteSpace(DecodeUtf8(text, &pos))) break;
    end = pos;
  }
  return end;
}

absl::StatusOr<AddedVocabulary::Token> ParseToken(const Json& item, absl::string_view where) {
  AddedVocabulary::Token token;
  auto content = String(item, "content", where);
  if (!content.ok()) return content.status();
  token.content = *std::move(content);
  auto special = BoolOr(item, "special", false, where);
  if (!special.ok()) return special.status();
  token.special = *special;
  const std::pair<const char*, bool*> flags[] = {
      {"single_word", &token.single_word}, {"lstrip", &token.lstrip}, {"rstrip", &token.rstrip}};
  for (const auto& [key, flag] : flags) {
    auto value = BoolOr(item, key, false, where);
    if (!value.ok()) return value.status();
    *flag = *value;
  }
  auto normalized = BoolOr(item, "normalized", !token.special, where);
  if (!normalized.ok()) return normalized.status();
  token.normalized = *normalized;
  return token;
}

}  // namespace

StringMatcher::StringMatcher() : nodes_(1) {}

int32_t StringMatcher::Child(int32_t node, uint8_t byte) const {
  const auto& children = nodes_[node].children;
  const auto it = std::lower_bound(children.begin(), children.end(), std::pair(byte, int32_t{0}));
  return it != children.end() && it->first == byte ? it->second : 0;
}

void StringMatcher::Add(std::string_view text, TokenId value) {
  if (text.empty()) return;
  int32_t node = 0;
  for (const char c : text) {
    const uint8_t byte = static_cast<uint8_t>(c);
    int32_t child = Child(node, byte);
    if (child == 0) {
      child = static_cast<int32_t>(nodes_.size());
      nodes_.emplace_back();
      auto& children = nodes_[node].children;
      children.insert(
          std::lower_bound(children.begin(), children.end(), std::pair(byte, int32_t{0})),
          {byte, child});
      if (node == 0) first_[byte] = child;
    }
    node = child;
  }
  nodes_[node].value = value;
}

bool StringMatcher::Next(std::string_view text, size_t from, size_t* begin, size_t* end,
                         TokenId* value) const {
  for (size_t i = from; i < text.size(); ++i) {
    int32_t node = first_[static_cast<uint8_t>(text[i])];
    if (node == 0) continue;
    TokenId best = -1;
    for (size_t pos = i + 1;; ++pos) {
      if (nodes_[node].value >= 0) {
        best = nodes_[node].value;
        *end = pos;
      }
      if (pos == text.size()) break;
      node = Child(node, static_cast<uint8_t>(text[pos]));
      if (node == 0) break;
    }
    if (best >= 0) {
      *begin = i;
      *value = best;
      return true;
    }
  }
  return false;
}

absl::StatusOr<AddedVocabulary> AddedVocabulary::Create(const Json* list, const BpeModel& model,
                                                        const Normalizer& normalizer) {
  AddedVocabulary added;
  if (list == nullptr) return added;
  if (!list->is_array()) return absl::InvalidArgumentError("added_tokens must be a list");
  TokenId next_id = static_cast<TokenId>(model.size());
  for (size_t i = 0; i < list->size(); ++i) {
    const std::string where = absl::StrCat("added_tokens[", i, "]");
    auto token = ParseToken((*list)[i], where);
    if (!token.ok()) return token.status();
    if (token->content.empty()) continue;
    TokenId id = added.Find(token->content);
    if (id < 0) id = model.Find(token->content);
    if (id < 0) id = next_id++;
    if (token->normalized) {
      std::string text = token->content;
      normalizer.Apply(&text);
      if (text != token->content) added.normalized_texts_[id] = std::move(text);
    }
    added.ids_[token->content] = id;
    if (token->special) added.special_.insert(token->content);
    added.tokens_[id] = *std::move(token);
  }
  for (const auto& [id, token] : added.tokens_) {
    if (token.normalized) {
      added.normalized_matcher_.Add(*added.Text(id), id);
    } else {
      added.matcher_.Add(token.content, id);
    }
  }
  return added;
}

void AddedVocabulary::Split(std::string_view text, bool normalized,
                            std::vector<Part>* parts) const {
  const StringMatcher& matcher = normalized ? normalized_matcher_ : matcher_;
  size_t done = 0;
  size_t from = 0;
  size_t begin = 0;
  size_t end = 0;
  TokenId id = -1;
  while (!matcher.empty() && matcher.Next(text, from, &begin, &end, &id)) {
    from = end;
    const Token& token = tokens_.find(id)->second;
    if (token.single_word &&
        (EndsWithWordChar(text.substr(0, begin)) || StartsWithWordChar(text.substr(end)))) {
      continue;
    }
    // Spaces that the token ahead took are not taken again.
    if (token.lstrip) begin = std::max(TrailingSpaceBegin(text.substr(0, begin)), done);
    if (token.rstrip) end += LeadingSpaceEnd(text.substr(end));
    if (done < begin) parts->push_back({done, begin, -1});
    parts->push_back({begin, end, id});
    done = end;
  }
  if (done < text.size()) parts->push_back({done, text.size(), -1});
}

TokenId AddedVocabulary::Find(std::string_view content) const {
  const auto it = ids_.find(ToAbsl(content));
  return it == ids_.end() ? -1 : it->second;
}

const std::string* AddedVocabulary::Text(TokenId id) const {
  const auto token = tokens_.find(id);
  if (token == tokens_.end()) return nullptr;
  const auto normalized = normalized_texts_.find(id);
  return normalized == normalized_texts_.end() ? &token->second.content : &normalized->second;
}

std::string AddedVocabulary::Canonical() const {
  std::string out;
  for (const auto& [id, token] : tokens_) {
    absl::StrAppend(&out, id, ":", token.content.size(), ":", token.content, ":", token.single_word,
                    token.lstrip, token.rstrip, token.normalized, token.special, ";");
  }
  return out;
}

}  // namespace strata::tokenizer
