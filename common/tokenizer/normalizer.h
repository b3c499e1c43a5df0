#ifndef STRATA_COMMON_TOKENIZER_NORMALIZER_H_
#define STRATA_COMMON_TOKENIZER_NORMALIZER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/tokenizer/json.h"

namespace strata::tokenizer {

// The "normalizer" of tokenizer.json: rewrites text ahead of splitting.
// Immutable; thread-safe.
class Normalizer {
 public:
  // `config` null (or absent): a normalizer that changes nothing.
  // UNIMPLEMENTED names a type that is not one of NFC, NFD, NFKC, NFKD, Prepend,
  // Replace, Strip, Sequence.
  static absl::StatusOr<std::unique_ptr<Normalizer>> Create(const Json* config);
  virtual ~Normalizer() = default;
  // `text` is valid UTF-8 and stays so.
  virtual void Apply(std::string* text) const = 0;
  // True if Apply never changes a text; saves the copy.
  virtual bool identity() const { return false; }
};

}  // namespace strata::tokenizer

#endif  // STRATA_COMMON_TOKENIZER_NORMALIZER_H_
