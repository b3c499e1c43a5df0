#include "common/tokenizer/pre_tokenizer.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/tokenizer/byte_level.h"
#include "common/tokenizer/pattern.h"
#include "common/tokenizer/regex.h"
#include "common/tokenizer/strings.h"
#include "common/tokenizer/unicode.h"
#include "common/tokenizer/utf8.h"

namespace strata::tokenizer {
namespace {

constexpr absl::string_view kWhere = "pre_tokenizer";

// GPT-2's pattern, built into the ByteLevel pre-tokenizer.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

absl::StatusOr<Behavior> ParseBehavior(const Json& config) {
  auto name = String(config, "behavior", kWhere);
  if (!name.ok()) return name.status();
  if (*name == "Removed") return Behavior::kRemoved;
  if (*name == "Isolated") return Behavior::kIsolated;
  if (*name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (*name == "MergedWithNext") return Behavior::kMergedWithNext;
  if (*name == "Contiguous") return Behavior::kContiguous;
  return absl::InvalidArgumentError(
      absl::StrCat("pre_tokenizer behavior \"", *name,
                   "\" (known: Removed, Isolated, MergedWithPrevious, MergedWithNext, "
                   "Contiguous)"));
}

// Turns matches and what lies between them (covering the text in order) into the
// parts that `behavior` asks for.
void ApplyBehavior(Behavior behavior, std::vector<Span>* spans) {
  std::vector<Span>& all = *spans;
  size_t kept = 0;
  bool previous_match = false;
  switch (behavior) {
    case Behavior::kIsolated:
      return;
    case Behavior::kRemoved:
      for (const Span& span : all) {
        if (!span.match) all[kept++] = span;
      }
      break;
    case Behavior::kContiguous:
    case Behavior::kMergedWithPrevious:
      for (const Span span : all) {
        const bool join = behavior == Behavior::kContiguous ? span.match == previous_match
                                                            : span.match && !previous_match;
        if (join && kept > 0) {
          all[kept - 1].end = span.end;
        } else {
          all[kept++] = span;
        }
        previous_match = span.match;
      }
      break;
    case Behavior::kMergedWithNext: {
      size_t first = all.size();
      for (size_t i = all.size(); i-- > 0;) {
        const Span span = all[i];
        if (span.match && !previous_match && first < all.size()) {
          all[first].begin = span.begin;
        } else {
          all[--first] = span;
        }
        previous_match = span.match;
      }
      all.erase(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(first));
      return;
    }
  }
  all.resize(kept);
}

void AppendPieces(const Piece& piece, const std::vector<Span>& spans, std::vector<Piece>* out) {
  for (const Span& span : spans) {
    if (span.begin == span.end) continue;
    out->push_back(
        {piece.text.substr(span.begin, span.end - span.begin), piece.at_start && span.begin == 0});
  }
}

// Scratch for one Cut at a time; saves an allocation a piece.
std::vector<Span>& ThreadSpans() {
  thread_local std::vector<Span> spans;
  spans.clear();
  return spans;
}

class Whole : public PreTokenizer {
 public:
  void Cut(const Piece& piece, Arena*, std::vector<Piece>* out) const override {
    out->push_back(piece);
  }
};

class Digits : public PreTokenizer {
 public:
  explicit Digits(bool individual) : individual_(individual) {}
  void Cut(const Piece& piece, Arena*, std::vector<Piece>* out) const override {
    const std::string_view text = piece.text;
    size_t begin = 0;
    bool digits = false;
    const auto flush = [&](size_t end) {
      if (end > begin) {
        out->push_back({text.substr(begin, end - begin), piece.at_start && begin == 0});
      }
      begin = end;
    };
    for (size_t pos = 0; pos < text.size();) {
      const size_t at = pos;
      const bool digit = IsNumeric(DecodeUtf8(text, &pos));
      if (digit != digits || (digit && individual_)) flush(at);
      digits = digit;
    }
    flush(text.size());
  }

 private:
  bool individual_;
};

class Split : public PreTokenizer {
 public:
  Split(Regex regex, Behavior behavior, bool invert)
      : regex_(std::move(regex)), behavior_(behavior), invert_(invert) {}
  void Cut(const Piece& piece, Arena*, std::vector<Piece>* out) const override {
    std::vector<Span>& spans = ThreadSpans();
    regex_.Split(piece.text, &spans);
    if (invert_) {
      for (Span& span : spans) span.match = !span.match;
    }
    ApplyBehavior(behavior_, &spans);
    AppendPieces(piece, spans, out);
  }

 private:
  Regex regex_;
  Behavior behavior_;
  bool invert_;
};

class ByteLevel : public PreTokenizer {
 public:
  ByteLevel(std::optional<Regex> regex, bool add_prefix_space)
      : regex_(std::move(regex)), add_prefix_space_(add_prefix_space) {}
  void Cut(const Piece& piece, Arena* arena, std::vector<Piece>* out) const override {
    Piece whole = piece;
    if (add_prefix_space_ && whole.text.front() != ' ') {
      whole.text = arena->Keep(absl::StrCat(" ", ToAbsl(whole.text)));
    }
    if (!regex_) {
      out->push_back(whole);
      return;
    }
    std::vector<Span>& spans = ThreadSpans();
    regex_->Split(whole.text, &spans);
    AppendPieces(whole, spans, out);
  }
  bool maps_bytes() const override { return true; }

 private:
  std::optional<Regex> regex_;
  bool add_prefix_space_;
};

class Metaspace : public PreTokenizer {
 public:
  enum class Scheme { kFirst, kNever, kAlways };
  Metaspace(std::string replacement, Scheme scheme, bool split)
      : replacement_(std::move(replacement)), scheme_(scheme), split_(split) {}
  void Cut(const Piece& piece, Arena* arena, std::vector<Piece>* out) const override {
    std::string text;
    text.reserve(piece.text.size() + piece.text.size() / 2 + replacement_.size());
    const bool marked = piece.text.front() == ' ' || piece.text.starts_with(replacement_);
    if (!marked && (scheme_ == Scheme::kAlways || (scheme_ == Scheme::kFirst && piece.at_start))) {
      text = replacement_;
    }
    for (const char c : piece.text) {
      if (c == ' ') {
        text.append(replacement_);
      } else {
        text.push_back(c);
      }
    }
    const Piece whole{arena->Keep(std::move(text)), piece.at_start};
    if (!split_) {
      out->push_back(whole);
      return;
    }
    std::vector<Span>& spans = ThreadSpans();
    size_t done = 0;
    for (size_t at; (at = whole.text.find(replacement_, done)) != std::string_view::npos;) {
      if (at > done) spans.push_back({done, at, false});
      done = at + replacement_.size();
      spans.push_back({at, done, true});
    }
    if (done < whole.text.size()) spans.push_back({done, whole.text.size(), false});
    ApplyBehavior(Behavior::kMergedWithNext, &spans);
    AppendPieces(whole, spans, out);
  }

 private:
  std::string replacement_;
  Scheme scheme_;
  bool split_;
};

class Sequence : public PreTokenizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<PreTokenizer>> parts) : parts_(std::move(parts)) {}
  void Cut(const Piece& piece, Arena* arena, std::vector<Piece>* out) const override {
    std::vector<Piece> from = {piece};
    std::vector<Piece> to;
    for (size_t i = 0; i < parts_.size(); ++i) {
      to.clear();
      for (const Piece& part : from) parts_[i]->Cut(part, arena, &to);
      if (parts_[i]->maps_bytes() && i + 1 < parts_.size()) {
        // A later stage must see the mapped characters.
        for (Piece& part : to) {
          std::string mapped;
          AppendByteLevel(part.text, &mapped);
          part.text = arena->Keep(std::move(mapped));
        }
      }
      from.swap(to);
    }
    out->insert(out->end(), from.begin(), from.end());
  }
  bool maps_bytes() const override { return !parts_.empty() && parts_.back()->maps_bytes(); }

 private:
  std::vector<std::unique_ptr<PreTokenizer>> parts_;
};

absl::StatusOr<std::unique_ptr<PreTokenizer>> CreateByteLevel(const Json& config) {
  auto prefix = BoolOr(config, "add_prefix_space", true, kWhere);
  if (!prefix.ok()) return prefix.status();
  auto use_regex = BoolOr(config, "use_regex", true, kWhere);
  if (!use_regex.ok()) return use_regex.status();
  std::optional<Regex> regex;
  if (*use_regex) {
    auto compiled = Regex::Compile(kGpt2Pattern);
    if (!compiled.ok()) return compiled.status();
    regex = *std::move(compiled);
  }
  return std::make_unique<ByteLevel>(std::move(regex), *prefix);
}

absl::StatusOr<std::unique_ptr<PreTokenizer>> CreateSplit(const Json& config) {
  auto regex = ParsePattern(config, kWhere);
  if (!regex.ok()) return regex.status();
  auto behavior = ParseBehavior(config);
  if (!behavior.ok()) return behavior.status();
  auto invert = BoolOr(config, "invert", false, kWhere);
  if (!invert.ok()) return invert.status();
  return std::make_unique<Split>(*std::move(regex), *behavior, *invert);
}

absl::StatusOr<std::unique_ptr<PreTokenizer>> CreateMetaspace(const Json& config) {
  auto replacement = String(config, "replacement", kWhere);
  if (!replacement.ok()) return replacement.status();
  if (replacement->empty() || ValidUtf8Prefix(*replacement) != replacement->size() ||
      static_cast<size_t>(ScanUtf8(*replacement, 0).length) != replacement->size()) {
    return absl::InvalidArgumentError("pre_tokenizer Metaspace.replacement must be one character");
  }
  auto prefix = BoolOr(config, "add_prefix_space", true, kWhere);
  if (!prefix.ok()) return prefix.status();
  auto name = StringOr(config, "prepend_scheme", *prefix ? "always" : "never", kWhere);
  if (!name.ok()) return name.status();
  auto split = BoolOr(config, "split", true, kWhere);
  if (!split.ok()) return split.status();
  Metaspace::Scheme scheme;
  if (*name == "first") {
    scheme = Metaspace::Scheme::kFirst;
  } else if (*name == "never") {
    scheme = Metaspace::Scheme::kNever;
  } else if (*name == "always") {
    scheme = Metaspace::Scheme::kAlways;
  } else {
    return absl::InvalidArgumentError(absl::StrCat("pre_tokenizer Metaspace.prepend_scheme \"",
                                                   *name, "\" (known: first, never, always)"));
  }
  return std::make_unique<Metaspace>(*std::move(replacement), scheme, *split);
}

}  // namespace

absl::StatusOr<std::unique_ptr<PreTokenizer>> PreTokenizer::Create(const Json* config) {
  if (config == nullptr || config->is_null()) return std::make_unique<Whole>();
  auto type = String(*config, "type", kWhere);
  if (!type.ok()) return type.status();
  if (*type == "Digits") {
    auto individual = BoolOr(*config, "individual_digits", false, kWhere);
    if (!individual.ok()) return individual.status();
    return std::make_unique<Digits>(*individual);
  }
  if (*type == "ByteLevel") return CreateByteLevel(*config);
  if (*type == "Split") return CreateSplit(*config);
  if (*type == "Metaspace") return CreateMetaspace(*config);
  if (*type == "Sequence") {
    const Json* list = Find(*config, "pretokenizers");
    if (list == nullptr || !list->is_array()) {
      return absl::InvalidArgumentError("pre_tokenizer Sequence lacks the list \"pretokenizers\"");
    }
    std::vector<std::unique_ptr<PreTokenizer>> parts;
    for (const Json& item : *list) {
      auto part = Create(&item);
      if (!part.ok()) return part.status();
      parts.push_back(*std::move(part));
    }
    return std::make_unique<Sequence>(std::move(parts));
  }
  return absl::UnimplementedError(absl::StrCat(
      "pre_tokenizer \"", *type, "\" (known: Digits, ByteLevel, Split, Metaspace, Sequence)"));
}

}  // namespace strata::tokenizer
