#ifndef STRATA_TESTS_FUZZ_FUZZ_SEED_H_
#define STRATA_TESTS_FUZZ_FUZZ_SEED_H_

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace strata::fuzz {

// Writes `seeds` into the first corpus folder of libFuzzer's command line, so that it starts from
// valid inputs. FuzzedDataProvider takes numbers from the end of an input and bytes from its front.
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
