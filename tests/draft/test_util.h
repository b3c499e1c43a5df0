#ifndef STRATA_TESTS_DRAFT_TEST_UTIL_H_
#define STRATA_TESTS_DRAFT_TEST_UTIL_H_

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "common/base/draft_tree.h"
#include "services/draft/tiers/tier.h"

namespace strata::draft {

using Tokens = std::vector<TokenId>;

// `count` tokens in [0, vocabulary): few enough values that n-grams repeat.
inline Tokens RandomTokens(std::mt19937& random, size_t count, int vocabulary) {
  Tokens tokens(count);
  for (TokenId& token : tokens) token = static_cast<TokenId>(random() % vocabulary);
  return tokens;
}

// A folder of this test's own, removed with the object.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string path = (std::filesystem::temp_directory_path() / "strata-test-XXXXXX").string();
    if (mkdtemp(path.data()) == nullptr) ADD_FAILURE() << "cannot make a folder like " << path;
    path_ = path;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace strata::draft

#endif  // STRATA_TESTS_DRAFT_TEST_UTIL_H_
