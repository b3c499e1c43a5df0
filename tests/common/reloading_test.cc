#include "common/base/reloading.h"

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

namespace strata {
namespace {

using Number = Reloading<std::string, int>;

struct Files {
  absl::StatusOr<std::string> content = std::string("1");
  int parsed = 0;
  std::vector<std::string> reports;

  Number::Source Source(std::chrono::steady_clock::duration interval) {
    return {
        .read = [this] { return content; },
        .parse = [this](const std::string& raw) -> absl::StatusOr<int> {
          ++parsed;
          if (raw == "bad") return absl::InvalidArgumentError("it is bad");
          return std::stoi(raw);
        },
        .report = [this](const absl::Status& s) { reports.push_back(std::string(s.message())); },
        .interval = interval};
  }
};

TEST(ReloadingTest, FollowsWhatIsGoodAndKeepsItOverWhatIsNot) {
  Files files;
  auto opened = Number::Open(files.Source(std::chrono::seconds(0)));
  ASSERT_TRUE(opened.ok());
  Number& number = **opened;
  EXPECT_EQ(*number.Get(), 1);
  EXPECT_EQ(number.Get(), number.Get());
  EXPECT_EQ(files.parsed, 1);
  files.content = std::string("2");
  EXPECT_EQ(*number.Get(), 2);
  for (int i = 0; i < 3; ++i) {
    files.content = std::string("bad");
    EXPECT_EQ(*number.Get(), 2);
  }
  files.content = absl::NotFoundError("it is gone");
  EXPECT_EQ(*number.Get(), 2);
  files.content = std::string("3");
  EXPECT_EQ(*number.Get(), 3);
  // Each change once, whoever asks how often.
  EXPECT_EQ(files.reports, (std::vector<std::string>{"", "it is bad", "it is gone", ""}));
}

TEST(ReloadingTest, WhatIsBadAtFirstIsAnError) {
  Files files;
  files.content = std::string("bad");
  EXPECT_EQ(Number::Open(files.Source(std::chrono::seconds(0))).status().message(), "it is bad");
  files.content = absl::NotFoundError("no file");
  EXPECT_TRUE(absl::IsNotFound(Number::Open(files.Source(std::chrono::seconds(0))).status()));
}

TEST(ReloadingTest, LooksOnceAnInterval) {
  Files files;
  auto number = Number::Open(files.Source(std::chrono::hours(1)));
  ASSERT_TRUE(number.ok());
  files.content = std::string("2");
  EXPECT_EQ(*(*number)->Get(), 1);
}

TEST(ReloadingTest, ManyThreadsAskAtOnce) {
  std::atomic<int> content = 0;
  auto number = Number::Open(
      {.read = [&]() -> absl::StatusOr<std::string> { return std::to_string(content.load()); },
       .parse = [](const std::string& raw) -> absl::StatusOr<int> { return std::stoi(raw); },
       .report = [](const absl::Status&) {},
       .interval = std::chrono::microseconds(50)});
  ASSERT_TRUE(number.ok());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      int last = 0;
      for (int i = 0; i < 5000; ++i) {
        if (i % 100 == 0) ++content;
        const int now = *(*number)->Get();
        EXPECT_GE(now, last);
        last = now;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace strata
