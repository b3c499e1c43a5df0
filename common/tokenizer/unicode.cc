#include "common/tokenizer/unicode.h"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/stringpiece.h>
#include <unicode/uchar.h>
#include <unicode/uniset.h>
#include <unicode/unistr.h>
#include <unicode/uversion.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/tokenizer/strings.h"

namespace strata::tokenizer {
namespace {

// PyPI `tokenizers` normalises by the tables of Unicode 9: a character added
// later neither changes nor lets anything move or compose across it.
constexpr char kNormalizedSet[] = "[:age=9.0:]";

// Digits that Rust knows (Unicode 17) and ICU 72 does not (Unicode 15).
constexpr char32_t kNewNumeric[][2] = {{0x10D40, 0x10D49}, {0x116D0, 0x116E3}, {0x11BF0, 0x11BF9},
                                       {0x11DE0, 0x11DE9}, {0x16130, 0x16139}, {0x16D70, 0x16D79},
                                       {0x16FF4, 0x16FF6}, {0x1CCF0, 0x1CCF9}, {0x1E5F1, 0x1E5FA}};

class IcuForm : public UnicodeForm {
 public:
  // `set` is frozen.
  IcuForm(const icu::Normalizer2& form, std::unique_ptr<icu::UnicodeSet> set)
      : set_(std::move(set)), form_(form, *set_) {}

  void Apply(std::string* text) const override {
    bool ascii = true;
    for (const char c : *text) ascii = ascii && static_cast<signed char>(c) >= 0;
    if (ascii) return;
    const icu::StringPiece piece(text->data(), static_cast<int32_t>(text->size()));
    UErrorCode error = U_ZERO_ERROR;
    if (form_.isNormalizedUTF8(piece, error) && U_SUCCESS(error)) return;
    error = U_ZERO_ERROR;
    std::string normalized;
    normalized.reserve(text->size() + 16);
    icu::StringByteSink<std::string> sink(&normalized);
    form_.normalizeUTF8(0, piece, sink, nullptr, error);
    // Fails only without memory; the text then stays as it is.
    if (U_SUCCESS(error)) *text = std::move(normalized);
  }

 private:
  const std::unique_ptr<icu::UnicodeSet> set_;
  const icu::FilteredNormalizer2 form_;
};

}  // namespace

bool IsNumeric(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  if ((U_MASK(u_charType(static_cast<UChar32>(c))) & U_GC_N_MASK) != 0) return true;
  if (c < kNewNumeric[0][0]) return false;
  for (const auto& range : kNewNumeric) {
    if (c >= range[0] && c <= range[1]) return true;
  }
  return false;
}

bool IsWhiteSpace(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
  return u_isUWhiteSpace(static_cast<UChar32>(c));
}

bool IsWordChar(char32_t c) {
  const UChar32 code = static_cast<UChar32>(c);
  return u_isUAlphabetic(code) || u_hasBinaryProperty(code, UCHAR_JOIN_CONTROL) ||
         (U_MASK(u_charType(code)) & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) != 0;
}

absl::StatusOr<std::unique_ptr<UnicodeForm>> UnicodeForm::Create(std::string_view name) {
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* form = nullptr;
  if (name == "NFC") {
    form = icu::Normalizer2::getNFCInstance(error);
  } else if (name == "NFD") {
    form = icu::Normalizer2::getNFDInstance(error);
  } else if (name == "NFKC") {
    form = icu::Normalizer2::getNFKCInstance(error);
  } else if (name == "NFKD") {
    form = icu::Normalizer2::getNFKDInstance(error);
  } else {
    return absl::UnimplementedError(absl::StrCat("normalization form ", ToAbsl(name)));
  }
  auto set = std::make_unique<icu::UnicodeSet>(icu::UnicodeString(kNormalizedSet), error);
  set->freeze();
  if (U_FAILURE(error) || form == nullptr) {
    return absl::InternalError(
        absl::StrCat("ICU cannot load ", ToAbsl(name), ": ", u_errorName(error)));
  }
  return std::make_unique<IcuForm>(*form, std::move(set));
}

}  // namespace strata::tokenizer
