#ifndef STRATA_COMMON_TOKENIZER_DECODER_H_
#define STRATA_COMMON_TOKENIZER_DECODER_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/tokenizer/json.h"

namespace strata::tokenizer {

// One stage of decoding at work on one sequence of tokens. A token comes as any
// number of Text calls and one EndToken; texts are whole characters. A stage
// passes on at once what can no longer change. Not thread-safe.
class DecodeStage {
 public:
  virtual ~DecodeStage() = default;
  virtual void Text(std::string_view text) = 0;
  virtual void EndToken() = 0;
  // The end of the sequence; nothing is called after it.
  virtual void Finish() = 0;
};

// The "decoder" of tokenizer.json: turns tokens back into text. Immutable;
// thread-safe. Decoding at once and decoding as a stream run the same stages, so
// their results are equal.
class Decoder {
 public:
  // `config` nullptr: tokens are joined with spaces, as PyPI `tokenizers` does.
  // UNIMPLEMENTED names a type that is not one of ByteLevel, ByteFallback, Fuse,
  // Metaspace, Replace, Strip, Sequence.
  static absl::StatusOr<std::unique_ptr<Decoder>> Create(const Json* config);
  virtual ~Decoder() = default;
  // A stage that passes its result to `next`, which outlives it, as this must.
  virtual std::unique_ptr<DecodeStage> Start(DecodeStage* next) const = 0;
};

// Decodes one sequence: stages of `decoder` at work, with the text that has come out.
class DecodeRun {
 public:
  explicit DecodeRun(const Decoder& decoder);
  ~DecodeRun();
  DecodeRun(const DecodeRun&) = delete;
  DecodeRun& operator=(const DecodeRun&) = delete;

  void Token(std::string_view token);
  void Finish();
  // The text that came out since the last call.
  std::string Take();

 private:
  class Sink;
  std::unique_ptr<Sink> sink_;
  std::unique_ptr<DecodeStage> first_;
};

}  // namespace strata::tokenizer

#endif  // STRATA_COMMON_TOKENIZER_DECODER_H_
