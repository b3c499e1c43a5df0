#ifndef STRATA_TESTS_FUZZ_FUZZ_SEED_H_
#define STRATA_TESTS_FUZZ_FUZZ_SEED_H_

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace strata::fuzz {

// Writes an input that FuzzedDataProvider reads back as the same values, asked for in this order.
class SeedWriter {
 public:
  // ConsumeIntegralInRange(min, max): as many bytes as the range needs, the highest one first.
  SeedWriter& Number(uint64_t value, uint64_t min, uint64_t max) {
    int bytes = 0;
    while (bytes < 8 && (max - min) >> (8 * bytes) > 0) ++bytes;
    for (int i = bytes; i-- > 0;) back_.push_back(static_cast<char>((value - min) >> (8 * i)));
    return *this;
  }
  // ConsumeIntegral of an unsigned type.
  SeedWriter& Byte(uint8_t value) { return Number(value, 0, UINT8_MAX); }
  SeedWriter& Bool(bool value) { return Byte(value ? 1 : 0); }
  // ConsumeRandomLengthString.
  SeedWriter& Text(std::string_view text) {
    for (const char c : text) {
      front_.push_back(c);
      if (c == '\\') front_.push_back(c);
    }
    front_ += "\\e";
    return *this;
  }
  // ConsumeBytes, or ConsumeRemainingBytes if it is last.
  SeedWriter& Bytes(std::string_view bytes) {
    front_ += bytes;
    return *this;
  }
  std::string Finish() const { return front_ + std::string(back_.rbegin(), back_.rend()); }

 private:
  std::string front_;
  // As they are consumed: from the end of the input.
  std::string back_;
};

// Writes `seeds` into the first corpus folder of libFuzzer's command line, so that it starts from
// valid inputs.
inline void WriteSeeds(int argc, char** argv, const std::vector<std::string>& seeds) {
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]).starts_with("-")) continue;
    if (!std::filesystem::is_directory(argv[i])) return;
    for (size_t s = 0; s < seeds.size(); ++s) {
      std::ofstream(std::filesystem::path(argv[i]) / ("seed-" + std::to_string(s)),
                    std::ios::binary)
          << seeds[s];
    }
    return;
  }
}

}  // namespace strata::fuzz

#endif  // STRATA_TESTS_FUZZ_FUZZ_SEED_H_
