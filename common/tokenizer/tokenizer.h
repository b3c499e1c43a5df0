#ifndef STRATA_COMMON_TOKENIZER_TOKENIZER_H_
#define STRATA_COMMON_TOKENIZER_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/draft_tree.h"

namespace strata {

// Reads a Hugging Face `tokenizer.json` (byte-level BPE or SentencePiece-style
// BPE) and gives the ids that PyPI `tokenizers` gives.
// Immutable after Load; every method is thread-safe.
class Tokenizer {
 public:
  // `model_dir` holds tokenizer.json. NOT_FOUND if it is missing,
  // INVALID_ARGUMENT if it is damaged, UNIMPLEMENTED (naming the component) if
  // it uses something unknown.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const std::string& model_dir);
  virtual ~Tokenizer() = default;

  // Invalid UTF-8 is read as PyPI `tokenizers` reads str built with
  // errors="replace": each maximal invalid part is U+FFFD.
  // `add_special_tokens` adds what the post-processor adds (for example BOS).
  // Special tokens written out in `text` are always recognised.
  virtual std::vector<TokenId> Encode(std::string_view text, bool add_special_tokens) const = 0;

  // The whole text of `ids`; ids out of range are skipped. Invalid UTF-8 made by
  // cutting a character becomes U+FFFD.
  virtual std::string Decode(const std::vector<TokenId>& ids, bool skip_special_tokens) const = 0;

  // Turns one id after another into text; never emits part of a character.
  // The concatenation of all outputs, with Finish, equals Decode of all ids.
  class Stream {
   public:
    virtual ~Stream() = default;
    // Text that became final with this id; may be empty.
    virtual std::string Push(TokenId id) = 0;
    // The rest; an unfinished character becomes U+FFFD.
    virtual std::string Finish() = 0;
  };
  // The tokenizer must outlive the stream; a stream serves one thread.
  virtual std::unique_ptr<Stream> NewStream(bool skip_special_tokens) const = 0;

  // Number of ids: 1 + the largest id.
  virtual int64_t vocab_size() const = 0;
  // -1 if there is no such token.
  virtual TokenId TokenToId(std::string_view token) const = 0;
  // 32 lower-case hex digits: xxHash128 of what determines the ids (vocabulary
  // with ids, merges, added tokens, normaliser and pre-tokeniser), independent of
  // formatting and key order in the file.
  virtual const std::string& fingerprint() const = 0;
};

}  // namespace strata

#endif  // STRATA_COMMON_TOKENIZER_TOKENIZER_H_
