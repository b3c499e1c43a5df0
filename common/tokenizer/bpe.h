#ifndef STRATA_COMMON_TOKENIZER_BPE_H_
#define STRATA_COMMON_TOKENIZER_BPE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/base/draft_tree.h"
#include "common/tokenizer/json.h"

namespace strata::tokenizer {

// Byte-pair encoding with ranked merges (Sennrich et al., arXiv 1508.07909): from
// the characters of a word on, the adjacent pair of the lowest rank is merged,
// the leftmost first, until no pair has a rank. Immutable; thread-safe.
class BpeModel {
 public:
  // What Tokenize needs; one a thread. Reuse saves allocations.
  struct Scratch {
    struct Symbol {
      TokenId id;
      int32_t prev;
      int32_t next;  // -1: none
      bool alive;
    };
    struct Candidate {
      uint32_t rank;
      int32_t position;
      TokenId merged;
    };
    std::vector<TokenId> ids;
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
  };

  // Reads the "model" of tokenizer.json. UNIMPLEMENTED for other types than BPE
  // and for dropout, continuing_subword_prefix and end_of_word_suffix.
  static absl::StatusOr<std::unique_ptr<BpeModel>> Create(const Json& config);

  // Appends the ids of `word` (valid UTF-8). O(n log n). Characters that are not
  // in the vocabulary become byte tokens, the unknown token, or nothing, as the
  // model says.
  void Tokenize(std::string_view word, Scratch* scratch, std::vector<TokenId>* out) const;

  TokenId Find(std::string_view token) const;  // -1: none
  // The token's text, or nullptr. Lives as long as the model.
  const std::string* Text(TokenId id) const;
  // Number of tokens; ids may leave gaps, so it can be less than max_id() + 1.
  size_t size() const { return ids_.size(); }
  TokenId max_id() const { return static_cast<TokenId>(texts_.size()) - 1; }

  // Canonical bytes of all that determines ids: tokens with ids, merges in order,
  // flags. The same for equal models however their files are written.
  std::string Canonical() const;

 private:
  struct Merge {
    uint32_t rank;
    TokenId merged;
  };
  struct Slot {
    std::string text;
    bool used = false;
  };

  BpeModel() = default;
  absl::Status ReadVocabulary(const Json& config);
  absl::Status ReadMerges(const Json& config);
  absl::Status ReadFlags(const Json& config);
  TokenId FindCharacter(std::string_view character) const;
  void AppendCharacters(std::string_view word, std::vector<TokenId>* ids) const;
  const Merge* FindMerge(TokenId left, TokenId right) const;
  void MergeShort(std::vector<TokenId>* ids) const;
  void MergeLong(Scratch* scratch) const;

  std::vector<Slot> texts_;                               // by id
  absl::flat_hash_map<absl::string_view, TokenId> ids_;   // keys refer to texts_
  absl::flat_hash_map<uint64_t, Merge> merges_;           // key: left id << 32 | right id
  std::vector<std::pair<TokenId, TokenId>> merge_order_;  // for Canonical
  std::vector<TokenId> character_ids_;                    // of U+0000 … U+07FF; -1: none
  std::vector<TokenId> byte_ids_;                         // of <0x00> … <0xFF>; -1: none
  TokenId unknown_ = -1;
  bool fuse_unknown_ = false;
  bool byte_fallback_ = false;
  bool ignore_merges_ = false;
};

}  // namespace strata::tokenizer

#endif  // STRATA_COMMON_TOKENIZER_BPE_H_
