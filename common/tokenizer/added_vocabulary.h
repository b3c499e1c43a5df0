#ifndef STRATA_COMMON_TOKENIZER_ADDED_VOCABULARY_H_
#define STRATA_COMMON_TOKENIZER_ADDED_VOCABULARY_H_

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "common/base/draft_tree.h"
#include "common/tokenizer/bpe.h"
#include "common/tokenizer/json.h"
#include "common/tokenizer/normalizer.h"
#include "common/tokenizer/strings.h"

namespace strata::tokenizer {

// Finds the leftmost, and there the longest, of a set of strings. Thread-safe
// once built.
class StringMatcher {
 public:
  StringMatcher();
  // A later value replaces an earlier one of the same text; an empty text is
  // never found.
  void Add(std::string_view text, TokenId value);
  bool empty() const { return nodes_.size() == 1; }
  // From `from` on. Returns false if there is none.
  bool Next(std::string_view text, size_t from, size_t* begin, size_t* end, TokenId* value) const;

 private:
  struct Node {
    TokenId value = -1;
    std::vector<std::pair<uint8_t, int32_t>> children;  // sorted by byte
  };
  int32_t Child(int32_t node, uint8_t byte) const;

  std::vector<Node> nodes_;           // 0 is the root
  std::array<int32_t, 256> first_{};  // the root's children; 0: none
};

// "added_tokens" of tokenizer.json: tokens that are recognised in the text itself
// before (or, if `normalized`, after) it is normalised, and never merged.
// Immutable after Create; thread-safe.
class AddedVocabulary {
 public:
  struct Token {
    std::string content;
    bool single_word = false;
    bool lstrip = false;
    bool rstrip = false;
    bool normalized = true;
    bool special = false;
  };
  // A part of a text: an added token's id, or -1 for plain text.
  struct Part {
    size_t begin;
    size_t end;
    TokenId id;
  };

  // `list` may be nullptr. Tokens that the model knows have the model's id, others
  // are numbered behind it, as PyPI `tokenizers` does whatever the file says.
  static absl::StatusOr<AddedVocabulary> Create(const Json* list, const BpeModel& model,
                                                const Normalizer& normalizer);

  // Cuts `text` (valid UTF-8) at added tokens. `normalized` says whether `text`
  // is normalised already and thus which of the tokens are looked for.
  void Split(std::string_view text, bool normalized, std::vector<Part>* parts) const;

  TokenId Find(std::string_view content) const;  // -1: none
  // What the decoder gets for an added token (its normalised text), or nullptr.
  const std::string* Text(TokenId id) const;
  // True if some special token's content is `text`.
  bool IsSpecial(std::string_view text) const { return special_.contains(ToAbsl(text)); }
  TokenId max_id() const { return tokens_.empty() ? -1 : tokens_.rbegin()->first; }
  bool has_normalized() const { return !normalized_matcher_.empty(); }
  // See BpeModel::Canonical.
  std::string Canonical() const;

 private:
  std::map<TokenId, Token> tokens_;
  absl::flat_hash_map<std::string, TokenId> ids_;  // by content
  absl::flat_hash_map<TokenId, std::string> normalized_texts_;
  absl::flat_hash_set<std::string> special_;
  StringMatcher matcher_;
  StringMatcher normalized_matcher_;
};

}  // namespace strata::tokenizer

#endif  // STRATA_COMMON_TOKENIZER_ADDED_VOCABULARY_H_
