#include "services/verify/engine/json.h"

#include <gtest/gtest.h>

#include <random>

namespace strata::engine {
namespace {

TEST(JsonTest, ReadsEveryKind) {
  auto json = Json::Parse(
      R"({"a": [1, -2.5e3, true, false, null], "b": {"c": "x\n\u00e9\ud83d\ude00\"\/"}})");
  ASSERT_TRUE(json.ok()) << json.status().message();
  const auto& items = json->Find("a")->items();
  ASSERT_EQ(items.size(), 5u);
  EXPECT_EQ(items[0].AsInt(), 1);
  EXPECT_EQ(items[1].AsNumber(), -2500.0);
  EXPECT_EQ(items[2].AsBool(), true);
  EXPECT_EQ(items[3].AsBool(), false);
  EXPECT_TRUE(items[4].is_null());
  EXPECT_EQ(json->Find("b")->Find("c")->AsString(), "x\n\xC3\xA9\xF0\x9F\x98\x80\"/");
  EXPECT_EQ(json->Find("none"), nullptr);
  EXPECT_EQ(items[1].AsInt(), -2500);
  EXPECT_FALSE(items[2].AsInt().has_value());
}

TEST(JsonTest, RefusesWhatIsNotJson) {
  for (const char* text : {"",
                           "{",
                           "[1,",
                           "[1 2]",
                           "{\"a\"}",
                           "{\"a\":1,}",
                           "nul",
                           "01",
                           "1.",
                           "1e",
                           "-",
                           "\"\\x\"",
                           "\"\\ud800\"",
                           "\"\\udc00\"",
                           "\"a",
                           "\"\\u12\"",
                           "{} {}",
                           "{\"a\":1,\"a\":2}",
                           "+1",
                           "\"\n\"",
                           "1e999",
                           "'a'",
                           "[1]]"}) {
    EXPECT_FALSE(Json::Parse(text).ok()) << text;
  }
  EXPECT_FALSE(Json::Parse(std::string(100000, '[')).ok());
}

TEST(JsonTest, FaultNamesItsPlace) {
  auto json = Json::Parse("{\"a\": x}");
  ASSERT_FALSE(json.ok());
  EXPECT_NE(json.status().message().find("byte 6"), std::string::npos) << json.status().message();
}

TEST(JsonTest, DamagedTextNeverCrashes) {
  const std::string text =
      R"({"a": {"dtype": "F32", "shape": [1, 2, 3], "data_offsets": [0, 24]}, "b": "\u00e9\n"})";
  std::mt19937 random(7);
  int refused = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string damaged = text.substr(0, random() % (text.size() + 1));
    for (int k = random() % 4; k > 0 && !damaged.empty(); --k) {
      damaged[random() % damaged.size()] = static_cast<char>(random());
    }
    refused += !Json::Parse(damaged).ok();
  }
  EXPECT_GT(refused, 10000);
}

}  // namespace
}  // namespace strata::engine
