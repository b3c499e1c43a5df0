#include "services/verify/scheduler/stop_matcher.h"

#include <gtest/gtest.h>

#include <random>

namespace strata::verify {
namespace {

struct Outcome {
  std::string text;
  bool stopped = false;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

Outcome Match(const std::vector<std::string>& stops, const std::vector<std::string>& pieces) {
  StopMatcher matcher(stops);
  Outcome out;
  for (const std::string& piece : pieces) {
    if (matcher.Push(piece, &out.text)) {
      out.stopped = true;
      return out;
    }
  }
  matcher.Finish(&out.text);
  return out;
}

TEST(StopMatcher, HoldsBackWhatMayBecomeAStop) {
  StopMatcher matcher({"END"});
  std::string released;
  EXPECT_FALSE(matcher.Push("one E", &released));
  EXPECT_EQ(released, "one ");
  EXPECT_FALSE(matcher.Push("N", &released));
  EXPECT_EQ(released, "one ");
  EXPECT_FALSE(matcher.Push("E", &released));
  EXPECT_EQ(released, "one EN");
  EXPECT_TRUE(matcher.Push("NDless", &released));
  EXPECT_EQ(released, "one EN");
}

TEST(StopMatcher, TheFirstInTheTextWins) {
  EXPECT_EQ(Match({"cd", "b"}, {"abcd"}), (Outcome{"a", true}));
  EXPECT_EQ(Match({}, {"ab", "c"}), (Outcome{"abc", false}));
  EXPECT_EQ(Match({"\n\n"}, {"x\n", "y\n", "\nz"}), (Outcome{"x\ny", true}));
}

// Cut byte by byte, a match is noticed at its last byte: the reference.
TEST(StopMatcher, AgreesWithASearchOfTheWholeText) {
  std::mt19937 random(7);
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (int i = 0; i < 24; ++i) text += static_cast<char>('a' + random() % 2);
    std::string stop;
    for (int i = 1 + random() % 6; i > 0; --i) stop += static_cast<char>('a' + random() % 2);
    std::vector<std::string> pieces;
    for (size_t at = 0; at < text.size();) {
      const size_t n = 1 + random() % 5;
      pieces.push_back(text.substr(at, n));
      at += n;
    }
    const size_t found = text.find(stop);
    const Outcome expected =
        found == std::string::npos ? Outcome{text, false} : Outcome{text.substr(0, found), true};
    ASSERT_EQ(Match({stop}, pieces), expected) << text << " / " << stop;
  }
}

}  // namespace
}  // namespace strata::verify
