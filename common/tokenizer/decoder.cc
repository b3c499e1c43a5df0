#include "common/tokenizer/decoder.h"

#include <cstdint>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/tokenizer/byte_level.h"
#include "common/tokenizer/pattern.h"
#include "common/tokenizer/utf8.h"

namespace strata::tokenizer {
namespace {

constexpr absl::string_view kWhere = "decoder";

// A decoder without settings of its own, or with copies of them in a factory.
template <typename Stage, typename... Settings>
class StageDecoder : public Decoder {
 public:
  explicit StageDecoder(Settings... settings) : settings_(std::move(settings)...) {}
  std::unique_ptr<DecodeStage> Start(DecodeStage* next) const override {
    return std::apply(
        [next](const Settings&... settings) { return std::make_unique<Stage>(next, settings...); },
        settings_);
  }

 private:
  std::tuple<Settings...> settings_;
};

// Joins tokens with spaces.
class JoinStage : public DecodeStage {
 public:
  explicit JoinStage(DecodeStage* next) : next_(next) {}
  void Text(std::string_view text) override {
    if (between_) next_->Text(" ");
    between_ = false;
    next_->Text(text);
  }
  void EndToken() override {
    if (between_) next_->Text(" ");
    between_ = true;
  }
  void Finish() override { next_->Finish(); }

 private:
  DecodeStage* next_;
  bool between_ = false;
};

// All tokens become one.
class FuseStage : public DecodeStage {
 public:
  explicit FuseStage(DecodeStage* next) : next_(next) {}
  void Text(std::string_view text) override { next_->Text(text); }
  void EndToken() override {}
  void Finish() override {
    next_->EndToken();
    next_->Finish();
  }

 private:
  DecodeStage* next_;
};

// A stage that needs the whole token at once.
class WholeTokenStage : public DecodeStage {
 public:
  explicit WholeTokenStage(DecodeStage* next) : next_(next) {}
  void Text(std::string_view text) override { token_.append(text); }
  void EndToken() override {
    Token(token_);
    token_.clear();
  }
  void Finish() override {
    Flush();
    next_->Finish();
  }

 protected:
  virtual void Token(std::string_view token) = 0;
  virtual void Flush() {}
  void Emit(std::string_view token) {
    next_->Text(token);
    next_->EndToken();
  }
  DecodeStage* next() { return next_; }

 private:
  DecodeStage* next_;
  std::string token_;
};

class ReplaceStage : public WholeTokenStage {
 public:
  ReplaceStage(DecodeStage* next, const std::shared_ptr<const Replacement>& replacement)
      : WholeTokenStage(next), replacement_(replacement) {}

 private:
  void Token(std::string_view token) override {
    Emit(token.empty() ? std::string() : replacement_->Apply(token));
  }
  std::shared_ptr<const Replacement> replacement_;
};

// Tokens of GPT-2's alphabet become bytes, and the bytes text; all are one token.
class ByteLevelStage : public WholeTokenStage {
 public:
  explicit ByteLevelStage(DecodeStage* next) : WholeTokenStage(next) {}

 private:
  void Token(std::string_view token) override {
    if (!AppendFromByteLevel(token, &bytes_)) bytes_.append(token);
    // The last character may be cut: its other bytes can come with the next token.
    size_t ready = 0;
    while (ready < bytes_.size()) {
      ready += ValidUtf8Prefix(std::string_view(bytes_).substr(ready));
      if (ready == bytes_.size()) break;
      const Utf8Unit unit = ScanUtf8(bytes_, ready);
      if (unit.truncated) break;
      ready += unit.length;
    }
    Pass(ready);
  }
  void Flush() override {
    Pass(bytes_.size());
    next()->EndToken();
  }
  void Pass(size_t count) {
    if (count == 0) return;
    std::string text;
    AppendLossyUtf8(std::string_view(bytes_).substr(0, count), &text);
    bytes_.erase(0, count);
    next()->Text(text);
  }

  std::string bytes_;
};

// Tokens <0x00> … <0xFF> in a row become characters if together they are valid
// UTF-8, and otherwise one U+FFFD each. So nothing of a row is final before its end.
class ByteFallbackStage : public WholeTokenStage {
 public:
  explicit ByteFallbackStage(DecodeStage* next) : WholeTokenStage(next) {}

 private:
  static int HexDigit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
  }
  void Token(std::string_view token) override {
    if (token.size() == 6 && token.starts_with("<0x") && token.back() == '>') {
      const int high = HexDigit(token[3]);
      const int low = HexDigit(token[4]);
      if (high >= 0 && low >= 0) {
        row_.push_back(static_cast<char>(high * 16 + low));
        return;
      }
    }
    Flush();
    Emit(token);
  }
  void Flush() override {
    if (row_.empty()) return;
    if (ValidUtf8Prefix(row_) == row_.size()) {
      Emit(row_);
    } else {
      for (size_t i = 0; i < row_.size(); ++i) Emit(kReplacementCharacter);
    }
    row_.clear();
  }

  std::string row_;
};

// The replacement character becomes a space; those of the first token vanish if
// the encoder had put one there.
class MetaspaceStage : public WholeTokenStage {
 public:
  MetaspaceStage(DecodeStage* next, const std::string& replacement, bool prepends)
      : WholeTokenStage(next), replacement_(replacement), drop_(prepends) {}

 private:
  void Token(std::string_view token) override {
    std::string out;
    while (!token.empty()) {
      if (token.starts_with(replacement_)) {
        if (!drop_) out.push_back(' ');
        token.remove_prefix(replacement_.size());
      } else {
        out.push_back(token.front());
        token.remove_prefix(1);
      }
    }
    drop_ = false;
    Emit(out);
  }
  std::string replacement_;
  bool drop_;
};

// Takes up to `start` characters `content` off the front of each token and up to
// `stop` off its end. Behind Fuse the token is the whole text, so it streams.
class StripStage : public DecodeStage {
 public:
  StripStage(DecodeStage* next, const std::string& content, uint64_t start, uint64_t stop)
      : next_(next), content_(content), start_(start), stop_(stop) {}
  void Text(std::string_view text) override {
    while (stripped_ < start_ && text.starts_with(content_)) {
      text.remove_prefix(content_.size());
      ++stripped_;
    }
    if (text.empty()) return;
    stripped_ = start_;
    if (stop_ == 0) {
      next_->Text(text);
      return;
    }
    // What may be the end of the token waits.
    held_.append(text);
    size_t keep = held_.size();
    for (uint64_t i = 0; i < stop_ && std::string_view(held_).substr(0, keep).ends_with(content_);
         ++i) {
      keep -= content_.size();
    }
    if (keep > 0) next_->Text(std::string_view(held_).substr(0, keep));
    held_.erase(0, keep);
  }
  void EndToken() override {
    held_.clear();
    stripped_ = 0;
    next_->EndToken();
  }
  void Finish() override { next_->Finish(); }

 private:
  DecodeStage* next_;
  std::string content_;
  uint64_t start_;
  uint64_t stop_;
  uint64_t stripped_ = 0;
  std::string held_;
};

// Owns the stages of a Sequence; the first one is fed.
class ChainStage : public DecodeStage {
 public:
  ChainStage(DecodeStage* next, const std::vector<std::unique_ptr<Decoder>>& parts) {
    first_ = next;
    for (size_t i = parts.size(); i-- > 0;) {
      stages_.push_back(parts[i]->Start(first_));
      first_ = stages_.back().get();
    }
  }
  void Text(std::string_view text) override { first_->Text(text); }
  void EndToken() override { first_->EndToken(); }
  void Finish() override { first_->Finish(); }

 private:
  std::vector<std::unique_ptr<DecodeStage>> stages_;
  DecodeStage* first_;
};

class Sequence : public Decoder {
 public:
  explicit Sequence(std::vector<std::unique_ptr<Decoder>> parts) : parts_(std::move(parts)) {}
  std::unique_ptr<DecodeStage> Start(DecodeStage* next) const override {
    return std::make_unique<ChainStage>(next, parts_);
  }

 private:
  std::vector<std::unique_ptr<Decoder>> parts_;
};

absl::StatusOr<std::unique_ptr<Decoder>> CreateStrip(const Json& config) {
  auto content = String(config, "content", kWhere);
  if (!content.ok()) return content.status();
  if (content->empty()) return absl::InvalidArgumentError("decoder Strip.content is empty");
  uint64_t counts[2] = {0, 0};
  const char* keys[2] = {"start", "stop"};
  for (int i = 0; i < 2; ++i) {
    const Json* value = Find(config, keys[i]);
    if (value == nullptr || !value->is_number_unsigned()) {
      return absl::InvalidArgumentError(
          absl::StrCat("decoder Strip.", keys[i], " must be a count"));
    }
    counts[i] = value->get<uint64_t>();
  }
  return std::make_unique<StageDecoder<StripStage, std::string, uint64_t, uint64_t>>(
      *std::move(content), counts[0], counts[1]);
}

absl::StatusOr<std::unique_ptr<Decoder>> CreateMetaspace(const Json& config) {
  auto replacement = String(config, "replacement", kWhere);
  if (!replacement.ok()) return replacement.status();
  if (replacement->empty()) {
    return absl::InvalidArgumentError("decoder Metaspace.replacement is empty");
  }
  auto prefix = BoolOr(config, "add_prefix_space", true, kWhere);
  if (!prefix.ok()) return prefix.status();
  auto scheme = StringOr(config, "prepend_scheme", *prefix ? "always" : "never", kWhere);
  if (!scheme.ok()) return scheme.status();
  return std::make_unique<StageDecoder<MetaspaceStage, std::string, bool>>(*std::move(replacement),
                                                                           *scheme != "never");
}

}  // namespace

absl::StatusOr<std::unique_ptr<Decoder>> Decoder::Create(const Json* config) {
  if (config == nullptr) return std::make_unique<StageDecoder<JoinStage>>();
  auto type = String(*config, "type", kWhere);
  if (!type.ok()) return type.status();
  if (*type == "ByteLevel") return std::make_unique<StageDecoder<ByteLevelStage>>();
  if (*type == "ByteFallback") return std::make_unique<StageDecoder<ByteFallbackStage>>();
  if (*type == "Fuse") return std::make_unique<StageDecoder<FuseStage>>();
  if (*type == "Metaspace") return CreateMetaspace(*config);
  if (*type == "Strip") return CreateStrip(*config);
  if (*type == "Replace") {
    auto replacement = Replacement::Create(*config, kWhere);
    if (!replacement.ok()) return replacement.status();
    return std::make_unique<StageDecoder<ReplaceStage, std::shared_ptr<const Replacement>>>(
        std::make_shared<const Replacement>(*std::move(replacement)));
  }
  if (*type == "Sequence") {
    const Json* list = Find(*config, "decoders");
    if (list == nullptr || !list->is_array()) {
      return absl::InvalidArgumentError("decoder Sequence lacks the list \"decoders\"");
    }
    std::vector<std::unique_ptr<Decoder>> parts;
    for (const Json& item : *list) {
      auto part = Create(&item);
      if (!part.ok()) return part.status();
      parts.push_back(*std::move(part));
    }
    return std::make_unique<Sequence>(std::move(parts));
  }
  return absl::UnimplementedError(absl::StrCat(
      "decoder \"", *type,
      "\" (known: ByteLevel, ByteFallback, Fuse, Metaspace, Replace, Strip, Sequence)"));
}

class DecodeRun::Sink : public DecodeStage {
 public:
  void Text(std::string_view text) override { text_.append(text); }
  void EndToken() override {}
  void Finish() override {}
  std::string Take() { return std::exchange(text_, std::string()); }

 private:
  std::string text_;
};

DecodeRun::DecodeRun(const Decoder& decoder)
    : sink_(std::make_unique<Sink>()), first_(decoder.Start(sink_.get())) {}
DecodeRun::~DecodeRun() = default;

void DecodeRun::Token(std::string_view token) {
  first_->Text(token);
  first_->EndToken();
}

void DecodeRun::Finish() { first_->Finish(); }

std::string DecodeRun::Take() { return sink_->Take(); }

}  // namespace strata::tokenizer
