#include "common/tokenizer/utf8.h"

#include <cstring>

namespace strata::tokenizer {
namespace {

uint8_t ByteAt(std::string_view text, size_t pos) { return static_cast<uint8_t>(text[pos]); }

}  // namespace

Utf8Unit ScanUtf8(std::string_view text, size_t pos) {
  const uint8_t lead = ByteAt(text, pos);
  if (lead < 0x80) return {1, true, false};
  int length = 0;
  // The second byte's range excludes overlong forms, surrogates and > U+10FFFF.
  uint8_t low = 0x80;
  uint8_t high = 0xBF;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {1, false, false};
  }
  for (int i = 1; i < length; ++i) {
    if (pos + i >= text.size()) return {i, false, true};
    const uint8_t byte = ByteAt(text, pos + i);
    if (byte < low || byte > high) return {i, false, false};
    low = 0x80;
    high = 0xBF;
  }
  return {length, true, false};
}

size_t ValidUtf8Prefix(std::string_view text) {
  size_t pos = 0;
  while (pos < text.size()) {
    // Eight ASCII bytes at a time: most text is ASCII.
    uint64_t word;
    while (pos + sizeof(word) <= text.size()) {
      std::memcpy(&word, text.data() + pos, sizeof(word));
      if ((word & 0x8080808080808080ull) != 0) break;
      pos += sizeof(word);
    }
    if (pos >= text.size()) break;
    const Utf8Unit unit = ScanUtf8(text, pos);
    if (!unit.valid) return pos;
    pos += unit.length;
  }
  return text.size();
}

void AppendLossyUtf8(std::string_view text, std::string* out) {
  while (!text.empty()) {
    const size_t valid = ValidUtf8Prefix(text);
    out->append(text.substr(0, valid));
    if (valid == text.size()) return;
    out->append(kReplacementCharacter);
    text.remove_prefix(valid + ScanUtf8(text, valid).length);
  }
}

char32_t DecodeUtf8(std::string_view text, size_t* pos) {
  const uint8_t lead = ByteAt(text, (*pos)++);
  if (lead < 0x80) return lead;
  const int more = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
  char32_t c = lead & (0x3F >> more);
  for (int i = 0; i < more && *pos < text.size(); ++i) {
    c = (c << 6) | (ByteAt(text, (*pos)++) & 0x3F);
  }
  return c;
}

size_t PreviousUtf8(std::string_view text, size_t pos) {
  --pos;
  while (pos > 0 && (ByteAt(text, pos) & 0xC0) == 0x80) --pos;
  return pos;
}

void AppendUtf8(char32_t c, std::string* out) {
  if (c < 0x80) {
    out->push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    out->push_back(static_cast<char>(0xC0 | (c >> 6)));
    out->push_back(static_cast<char>(0x80 | (c & 0x3F)));
  } else if (c < 0x10000) {
    out->push_back(static_cast<char>(0xE0 | (c >> 12)));
    out->push_back(static_cast<char>(0x80 | ((c >> 6) & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (c & 0x3F)));
  } else {
    out->push_back(static_cast<char>(0xF0 | (c >> 18)));
    out->push_back(static_cast<char>(0x80 | ((c >> 12) & 0x3F)));
    out->push_back(static_cast<char>(0x80 | ((c >> 6) & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (c & 0x3F)));
  }
}

}  // namespace strata::tokenizer
