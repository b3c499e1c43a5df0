#include "services/client/load/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

namespace strata::client::load {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(ParseConcurrencies, Lists) {
  EXPECT_THAT(*ParseConcurrencies("1,2,4,8,16,32"), ElementsAre(1, 2, 4, 8, 16, 32));
  EXPECT_THAT(*ParseConcurrencies("1024"), ElementsAre(1024));
  // In the order asked for.
  EXPECT_THAT(*ParseConcurrencies("8,1"), ElementsAre(8, 1));
}

TEST(ParseConcurrencies, NamesTheItemAtFault) {
  for (const std::string bad : {"", "0", "-1", "1025", "x", "2.5", "1e3", "99999999999999999999"}) {
    for (const std::string& list : {bad, "3," + bad}) {
      const auto levels = ParseConcurrencies(list);
      EXPECT_EQ(levels.status().code(), absl::StatusCode::kInvalidArgument) << list;
      EXPECT_EQ(levels.status().message(), "'" + bad + "' is not a whole number from 1 to 1024");
    }
  }
  EXPECT_EQ(ParseConcurrencies("1,").status().message(), "'' is not a whole number from 1 to 1024");
  EXPECT_EQ(ParseConcurrencies("4,8,4").status().message(), "'4' is there twice");
}

TEST(ParseRates, Lists) { EXPECT_THAT(*ParseRates("0.25,2,1e2"), ElementsAre(0.25, 2, 100)); }

TEST(ParseRates, NamesTheItemAtFault) {
  for (const std::string bad : {"", "0", "-1", "nan", "inf", "1e9", "x", "1 2"}) {
    const auto rates = ParseRates("1," + bad);
    EXPECT_EQ(rates.status().code(), absl::StatusCode::kInvalidArgument) << bad;
    EXPECT_THAT(std::string(rates.status().message()), HasSubstr("'" + bad + "' is not a number"));
  }
  EXPECT_EQ(ParseRates("1,1.0").status().message(), "'1.0' is there twice");
}

TEST(ParseModes, Lists) {
  EXPECT_THAT(*ParseModes("on,off,fixed"), ElementsAre(Mode::kOn, Mode::kOff, Mode::kFixed));
  EXPECT_THAT(*ParseModes("fixed"), ElementsAre(Mode::kFixed));
  for (const Mode mode : {Mode::kOn, Mode::kOff, Mode::kFixed}) {
    EXPECT_THAT(*ParseModes(ModeName(mode)), ElementsAre(mode));
  }
}

TEST(ParseModes, NamesTheItemAtFault) {
  EXPECT_EQ(ParseModes("on,On").status().message(), "'On' is not on, off or fixed");
  EXPECT_EQ(ParseModes("").status().message(), "'' is not on, off or fixed");
  EXPECT_EQ(ParseModes("off,off").status().message(), "'off' is there twice");
}

TEST(ModeOrder, EachModeIsFirstInTurn) {
  const std::vector<Mode> modes = {Mode::kOn, Mode::kOff, Mode::kFixed};
  EXPECT_THAT(ModeOrder(modes, 0), ElementsAre(Mode::kOn, Mode::kOff, Mode::kFixed));
  EXPECT_THAT(ModeOrder(modes, 1), ElementsAre(Mode::kOff, Mode::kFixed, Mode::kOn));
  EXPECT_THAT(ModeOrder(modes, 2), ElementsAre(Mode::kFixed, Mode::kOn, Mode::kOff));
  EXPECT_EQ(ModeOrder(modes, 3), ModeOrder(modes, 0));
  EXPECT_TRUE(ModeOrder({}, 3).empty());
}

TEST(PromptOrder, IsAnotherInEachRound) {
  EXPECT_THAT(PromptOrder(4, 0), ElementsAre(0, 1, 2, 3));
  std::set<std::vector<size_t>> orders;
  for (size_t round = 0; round < 20; ++round) {
    std::vector<size_t> order = PromptOrder(40, round);
    EXPECT_EQ(order, PromptOrder(40, round));
    EXPECT_TRUE(orders.insert(order).second) << round;
    std::sort(order.begin(), order.end());
    EXPECT_EQ(order, PromptOrder(40, 0));
  }
  EXPECT_TRUE(PromptOrder(0, 1).empty());
  EXPECT_THAT(PromptOrder(1, 1), ElementsAre(0));
}

// With any standard library.
TEST(PromptOrder, IsTheSameEverywhere) {
  EXPECT_THAT(PromptOrder(6, 1), ElementsAre(1, 4, 2, 0, 5, 3));
}

TEST(DefaultRequests, FourTimesTheLevelAtLeastSixteen) {
  EXPECT_EQ(DefaultRequests(0.1), 16u);
  EXPECT_EQ(DefaultRequests(4), 16u);
  EXPECT_EQ(DefaultRequests(4.5), 20u);
  EXPECT_EQ(DefaultRequests(32), 128u);
}

}  // namespace
}  // namespace strata::client::load
