#include "common/config/nearest.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace strata::config {
namespace {

const std::vector<std::string> kKnown = {"listen", "kv-tokens", "max-batch", "max-queue"};

TEST(Nearest, CountsEveryKindOfEdit) {
  EXPECT_EQ(Nearest("kv-token", kKnown), "kv-tokens");    // a character is missing
  EXPECT_EQ(Nearest("kv--tokens", kKnown), "kv-tokens");  // one is too many
  EXPECT_EQ(Nearest("kw-tokens", kKnown), "kv-tokens");   // one is another
  EXPECT_EQ(Nearest("max-queu", kKnown), "max-queue");
  EXPECT_EQ(Nearest("listen", kKnown), "listen");
}

TEST(Nearest, OfEquallyNearTheFirst) { EXPECT_EQ(Nearest("ac", {"ab", "ad", "b"}), "ab"); }

TEST(Nearest, TakesWhateverComes) {
  EXPECT_EQ(Nearest("", kKnown), "listen");
  EXPECT_EQ(Nearest("x", {}), "");
  EXPECT_FALSE(Nearest(std::string(1 << 16, 'x'), kKnown).empty());
}

}  // namespace
}  // namespace strata::config
