#include "common/log/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace strata::log {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;

// What a service writes to standard error.
std::string Written(Format format, const std::function<void()>& log) {
  testing::internal::CaptureStderr();
  SetUp("strata-test", spdlog::level::info, format);
  log();
  spdlog::default_logger()->flush();
  return testing::internal::GetCapturedStderr();
}

nlohmann::json Parse(const std::string& line) {
  EXPECT_EQ(line.find('\n'), line.size() - 1) << line;
  return nlohmann::json::parse(line);
}

TEST(JsonLog, ALineIsAnObject) {
  const auto line = Parse(Written(Format::kJson, [] { spdlog::warn("{} of {}", 1, 2); }));
  EXPECT_EQ(line.size(), 4u);
  EXPECT_EQ(line["level"], "warning");
  EXPECT_EQ(line["service"], "strata-test");
  EXPECT_EQ(line["message"], "1 of 2");
  EXPECT_THAT(line["time"].get<std::string>(),
              MatchesRegex("20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\\.[0-9]{6}Z"));
}

TEST(JsonLog, WhateverIsLoggedIsValidJson) {
  std::string all;
  for (int c = 0; c < 256; ++c) all.push_back(static_cast<char>(c));
  for (const std::string& text :
       {std::string("quotes \" and \\"), std::string("two\nlines\r\t"), std::string("\0x", 2),
        std::string("\x1b[31mred"), std::string("cut \xe2\x82"), std::string("\xff\xfe"), all,
        std::string("\", \"level\": \"info"), std::string("{} {0} %s")}) {
    const auto line = Parse(Written(Format::kJson, [&] {
      const std::vector<Field> fields = {{"field", text}};
      Event(spdlog::level::info, text, fields);
    }));
    EXPECT_EQ(line.size(), 5u) << text;
    EXPECT_EQ(line["level"], "info");
    // Equal where it is text at all.
    if (text.find_first_of("\xe2\xff\x80") == std::string::npos) {
      EXPECT_EQ(line["message"], text);
      EXPECT_EQ(line["field"], text);
    }
  }
}

TEST(JsonLog, FieldsKeepTheirTypesAndEndWithTheirEvent) {
  const std::string text = Written(Format::kJson, [] {
    const std::vector<Field> fields = {{"text", "a b"},
                                       {"count", int64_t{1} << 60},
                                       {"ratio", 0.5},
                                       {"nothing", std::numeric_limits<double>::quiet_NaN()}};
    Event(spdlog::level::info, "event", fields);
    spdlog::info("after");
  });
  const size_t end = text.find('\n') + 1;
  const auto event = Parse(text.substr(0, end));
  EXPECT_EQ(event["text"], "a b");
  EXPECT_EQ(event["count"], int64_t{1} << 60);
  EXPECT_EQ(event["ratio"], 0.5);
  EXPECT_TRUE(event["nothing"].is_null());
  EXPECT_EQ(Parse(text.substr(end)).size(), 4u);
}

TEST(TextLog, FieldsStandBehindTheMessage) {
  const std::string text = Written(Format::kText, [] {
    const std::vector<Field> fields = {{"id", "a-1"},
                                       {"said", "two\nlines \"x\""},
                                       {"empty", ""},
                                       {"count", int64_t{7}},
                                       {"ratio", 0.5}};
    Event(spdlog::level::info, "event", fields);
  });
  EXPECT_THAT(text, HasSubstr("event id=a-1 said=\"two\\nlines \\\"x\\\"\" empty=\"\" count=7 "
                              "ratio=0.5\n"));
  EXPECT_EQ(text.find('\n'), text.size() - 1);
}

TEST(Log, WhatIsBelowTheLevelIsNotLogged) {
  for (const Format format : {Format::kText, Format::kJson}) {
    EXPECT_EQ(Written(format, [] { Event(spdlog::level::debug, "event", {}); }), "");
  }
}

}  // namespace
}  // namespace strata::log
