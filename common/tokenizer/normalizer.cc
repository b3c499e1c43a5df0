#include "common/tokenizer/normalizer.h"

#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/tokenizer/pattern.h"
#include "common/tokenizer/unicode.h"
#include "common/tokenizer/utf8.h"

namespace strata::tokenizer {
namespace {

class Identity : public Normalizer {
 public:
  void Apply(std::string*) const override {}
  bool identity() const override { return true; }
};

class Form : public Normalizer {
 public:
  explicit Form(std::unique_ptr<UnicodeForm> form) : form_(std::move(form)) {}
  void Apply(std::string* text) const override { form_->Apply(text); }

 private:
  std::unique_ptr<UnicodeForm> form_;
};

class Prepend : public Normalizer {
 public:
  explicit Prepend(std::string text) : text_(std::move(text)) {}
  void Apply(std::string* text) const override {
    if (!text->empty()) text->insert(0, text_);
  }

 private:
  std::string text_;
};

class Replace : public Normalizer {
 public:
  explicit Replace(Replacement replacement) : replacement_(std::move(replacement)) {}
  void Apply(std::string* text) const override {
    if (!text->empty()) *text = replacement_.Apply(*text);
  }

 private:
  Replacement replacement_;
};

class Strip : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  void Apply(std::string* text) const override {
    size_t end = text->size();
    while (right_ && end > 0) {
      const size_t previous = PreviousUtf8(*text, end);
      size_t at = previous;
      if (!IsWhiteSpace(DecodeUtf8(*text, &at))) break;
      end = previous;
    }
    size_t begin = 0;
    while (left_ && begin < end) {
      size_t next = begin;
      if (!IsWhiteSpace(DecodeUtf8(*text, &next))) break;
      begin = next;
    }
    text->resize(end);
    text->erase(0, begin);
  }

 private:
  bool left_;
  bool right_;
};

class Sequence : public Normalizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<Normalizer>> parts) : parts_(std::move(parts)) {}
  void Apply(std::string* text) const override {
    for (const auto& part : parts_) part->Apply(text);
  }
  bool identity() const override {
    for (const auto& part : parts_) {
      if (!part->identity()) return false;
    }
    return true;
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> parts_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Normalizer>> Normalizer::Create(const Json* config) {
  constexpr absl::string_view kWhere = "normalizer";
  if (config == nullptr || config->is_null()) return std::make_unique<Identity>();
  auto type = String(*config, "type", kWhere);
  if (!type.ok()) return type.status();
  if (*type == "NFC" || *type == "NFD" || *type == "NFKC" || *type == "NFKD") {
    auto form = UnicodeForm::Create(*type);
    if (!form.ok()) return form.status();
    return std::make_unique<Form>(*std::move(form));
  }
  if (*type == "Prepend") {
    auto text = String(*config, "prepend", kWhere);
    if (!text.ok()) return text.status();
    return std::make_unique<Prepend>(*std::move(text));
  }
  if (*type == "Replace") {
    auto replacement = Replacement::Create(*config, kWhere);
    if (!replacement.ok()) return replacement.status();
    return std::make_unique<Replace>(*std::move(replacement));
  }
  if (*type == "Strip") {
    auto left = BoolOr(*config, "strip_left", true, kWhere);
    if (!left.ok()) return left.status();
    auto right = BoolOr(*config, "strip_right", true, kWhere);
    if (!right.ok()) return right.status();
    return std::make_unique<Strip>(*left, *right);
  }
  if (*type == "Sequence") {
    const Json* list = Find(*config, "normalizers");
    if (list == nullptr || !list->is_array()) {
      return absl::InvalidArgumentError("normalizer Sequence lacks the list \"normalizers\"");
    }
    std::vector<std::unique_ptr<Normalizer>> parts;
    for (const Json& item : *list) {
      auto part = Create(&item);
      if (!part.ok()) return part.status();
      parts.push_back(*std::move(part));
    }
    return std::make_unique<Sequence>(std::move(parts));
  }
  return absl::UnimplementedError(
      absl::StrCat("normalizer \"", *type,
                   "\" (known: NFC, NFD, NFKC, NFKD, Prepend, Replace, Strip, Sequence)"));
}

}  // namespace strata::tokenizer
