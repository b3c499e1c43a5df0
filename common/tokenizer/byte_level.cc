#include "common/tokenizer/byte_level.h"

#include <array>
#include <cstdint>

#include "common/tokenizer/utf8.h"

namespace strata::tokenizer {
namespace {

constexpr int kAlphabetEnd = 256 + 68;  // 68 bytes have no printable character of their own

struct Alphabet {
  std::array<uint16_t, 256> to_char{};
  std::array<int16_t, kAlphabetEnd> to_byte{};  // -1: no byte
};

constexpr Alphabet MakeAlphabet() {
  Alphabet alphabet;
  for (auto& byte : alphabet.to_byte) byte = -1;
  int next = 256;
  for (int b = 0; b < 256; ++b) {
    const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    alphabet.to_char[b] = static_cast<uint16_t>(printable ? b : next++);
    alphabet.to_byte[alphabet.to_char[b]] = static_cast<int16_t>(b);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = MakeAlphabet();

}  // namespace

void AppendByteLevel(std::string_view bytes, std::string* out) {
  for (const char byte : bytes) AppendUtf8(kAlphabet.to_char[static_cast<uint8_t>(byte)], out);
}

bool AppendFromByteLevel(std::string_view text, std::string* out) {
  const size_t before = out->size();
  for (size_t pos = 0; pos < text.size();) {
    const char32_t c = DecodeUtf8(text, &pos);
    if (c >= kAlphabetEnd || kAlphabet.to_byte[c] < 0) {
      out->resize(before);
      return false;
    }
    out->push_back(static_cast<char>(kAlphabet.to_byte[c]));
  }
  return true;
}

}  // namespace strata::tokenizer
