#ifndef STRATA_SERVICES_DRAFT_CORPUS_VARINT_H_
#define STRATA_SERVICES_DRAFT_CORPUS_VARINT_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace strata::draft {

// Little-endian base-128, as protobuf writes unsigned integers.
inline void AppendVarint(uint64_t value, std::string& out) {
  while (value >= 0x80) {
    out.push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out.push_back(static_cast<char>(value));
}

// Reads varints from bytes that may be anything. Borrows the bytes.
class VarintReader {
 public:
  explicit VarintReader(std::string_view bytes) : bytes_(bytes) {}

  // False if the bytes end too early or the number needs more than 64 bits.
  bool Read(uint64_t& value) {
    value = 0;
    for (int shift = 0; shift < 64 && at_ < bytes_.size(); shift += 7) {
      const uint64_t byte = static_cast<uint8_t>(bytes_[at_++]);
      if (shift == 63 && byte > 1) return false;
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }

  bool done() const { return at_ == bytes_.size(); }
  // Bytes read so far.
  size_t position() const { return at_; }

 private:
  const std::string_view bytes_;
  size_t at_ = 0;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_VARINT_H_
