#ifndef STRATA_COMMON_TOKENIZER_WORD_CACHE_H_
#define STRATA_COMMON_TOKENIZER_WORD_CACHE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "common/base/draft_tree.h"
#include "common/tokenizer/strings.h"

namespace strata::tokenizer {

// Remembers the ids of words already merged. Bounded: when full it starts anew,
// which costs less than an order of use and forgets a text of another kind fast.
// Not thread-safe; one a thread at a time.
class WordCache {
 public:
  // True if the word is known; its ids are then appended to `out`.
  bool Append(std::string_view word, std::vector<TokenId>* out) const {
    const auto it = entries_.find(ToAbsl(word));
    if (it == entries_.end()) return false;
    const TokenId* ids = ids_.data() + it->second.begin;
    out->insert(out->end(), ids, ids + it->second.count);
    return true;
  }

  // Longer words are not worth the memory: they seldom come twice.
  static bool Takes(std::string_view word) { return word.size() <= kMaxWordBytes; }

  // `word` is one that Append does not know and Takes takes.
  void Add(std::string_view word, absl::Span<const TokenId> ids) {
    if (entries_.size() >= kMaxWords) {
      entries_.clear();
      ids_.clear();
    }
    entries_.emplace(std::string(word),
                     Entry{static_cast<uint32_t>(ids_.size()), static_cast<uint32_t>(ids.size())});
    ids_.insert(ids_.end(), ids.begin(), ids.end());
  }

 private:
  static constexpr size_t kMaxWords = 1 << 16;
  static constexpr size_t kMaxWordBytes = 128;
  struct Entry {
    uint32_t begin;  // in ids_
    uint32_t count;
  };
  absl::flat_hash_map<std::string, Entry> entries_;
  std::vector<TokenId> ids_;
};

}  // namespace strata::tokenizer

#endif  // STRATA_COMMON_TOKENIZER_WORD_CACHE_H_
