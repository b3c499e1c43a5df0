#ifndef STRATA_COMMON_TOKENIZER_PRE_TOKENIZER_H_
#define STRATA_COMMON_TOKENIZER_PRE_TOKENIZER_H_

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/tokenizer/json.h"

namespace strata::tokenizer {

// A part of the text on its way to the model. Valid UTF-8, not empty.
struct Piece {
  std::string_view text;
  // True if it begins where the input text begins (Metaspace's "first").
  bool at_start;
};

// Owns texts that a stage had to rewrite, at stable addresses.
class Arena {
 public:
  std::string_view Keep(std::string text) { return texts_.emplace_back(std::move(text)); }
  void Clear() { texts_.clear(); }

 private:
  std::deque<std::string> texts_;
};

// The "pre_tokenizer" of tokenizer.json: cuts text into what the model merges
// within. Immutable; thread-safe.
class PreTokenizer {
 public:
  // UNIMPLEMENTED names a type that is not one of Digits, ByteLevel, Split,
  // Metaspace, Sequence. `config` null (or absent): cuts nothing.
  static absl::StatusOr<std::unique_ptr<PreTokenizer>> Create(const Json* config);
  virtual ~PreTokenizer() = default;

  // Appends to `out` what `piece` is cut into; may refer to piece.text or `arena`.
  virtual void Cut(const Piece& piece, Arena* arena, std::vector<Piece>* out) const = 0;

  // True if the pieces still need byte_level.h's mapping, which the caller does
  // where it must (the word cache is keyed by the unmapped bytes).
  virtual bool maps_bytes() const { return false; }
};

}  // namespace strata::tokenizer

#endif  // STRATA_COMMON_TOKENIZER_PRE_TOKENIZER_H_
