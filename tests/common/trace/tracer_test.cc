#include "common/trace/tracer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "common/base/steady_clock.h"

namespace strata::trace {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class TracerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "/strata_trace_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    options_.file = (folder_ / "spans.jsonl").string();
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::unique_ptr<Tracer> Start() {
    auto tracer = Tracer::Start(options_, {"svc", "1"});
    EXPECT_TRUE(tracer.ok()) << tracer.status();
    return tracer.ok() ? *std::move(tracer) : nullptr;
  }
  static Span Numbered(int64_t number) {
    Span span;
    span.name = "numbered";
    span.context = {NewTraceId(), NewSpanId(), true};
    span.start = span.end = SteadyNow();
    span.Add("number", number);
    return span;
  }
  static std::string Read(const fs::path& path) {
    std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }
  // The numbers of all spans in a file; lines that are no JSON count as -1.
  static std::vector<int64_t> Numbers(const fs::path& path) {
    std::vector<int64_t> numbers;
    std::istringstream lines(Read(path));
    for (std::string line; std::getline(lines, line);) {
      const auto request = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
      if (request.is_discarded()) {
        numbers.push_back(-1);
        continue;
      }
      for (const auto& span : request["resourceSpans"][0]["scopeSpans"][0]["spans"]) {
        const std::string value = span["attributes"][0]["value"]["intValue"];
        numbers.push_back(std::stoll(value));
      }
    }
    return numbers;
  }
  static void WaitFor(const std::function<bool()>& condition) {
    const absl::Time end = SteadyNow() + absl::Seconds(20);
    while (!condition()) {
      ASSERT_LT(SteadyNow(), end);
      absl::SleepFor(absl::Milliseconds(5));
    }
  }

  fs::path folder_;
  TracerOptions options_;
};

TEST_F(TracerTest, WithoutAFileThereIsNone) {
  options_.file.clear();
  EXPECT_EQ(Start(), nullptr);
}

TEST_F(TracerTest, AFileThatCannotBeOpenedIsAnError) {
  options_.file = (folder_ / "missing" / "spans.jsonl").string();
  const auto tracer = Tracer::Start(options_, {"svc", "1"});
  ASSERT_FALSE(tracer.ok());
  EXPECT_THAT(std::string(tracer.status().message()), HasSubstr(options_.file));
}

TEST_F(TracerTest, WritesInOrderAndAllThatWaitsAtTheEnd) {
  std::vector<int64_t> expected;
  {
    const auto tracer = Start();
    for (int64_t i = 0; i < 1500; ++i) {
      tracer->Record(Numbered(i));
      expected.push_back(i);
    }
  }
  EXPECT_EQ(Numbers(options_.file), expected);
}

TEST_F(TracerTest, FewSpansAreWrittenSoonToo) {
  options_.flush_interval = absl::Milliseconds(10);
  const auto tracer = Start();
  tracer->Record(Numbered(7));
  WaitFor([&] { return tracer->counters().written.value() == 1; });
  EXPECT_EQ(Numbers(options_.file), std::vector<int64_t>{7});
}

TEST_F(TracerTest, ThreadsLoseNothing) {
  constexpr int kThreads = 4, kEach = 500;
  {
    const auto tracer = Start();
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < kEach; ++i) tracer->Record(Numbered(t * kEach + i));
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  std::vector<int64_t> numbers = Numbers(options_.file);
  std::sort(numbers.begin(), numbers.end());
  ASSERT_EQ(numbers.size(), size_t{kThreads * kEach});
  for (int i = 0; i < kThreads * kEach; ++i) EXPECT_EQ(numbers[i], i);
}

// A FIFO whose reader reads nothing is a disk that hangs: spans wait up to the bound, then are
// dropped, and Record returns all the while.
TEST_F(TracerTest, AFullQueueDropsAndCounts) {
  ASSERT_EQ(mkfifo(options_.file.c_str(), 0600), 0);
  options_.max_queued = 100;
  options_.flush_interval = absl::Milliseconds(1);
  constexpr uint64_t kSpans = 20000;
  uint64_t read = 0;
  std::atomic<bool> opened = false;
  std::thread reader;
  {
    const auto tracer = Start();
    ASSERT_NE(tracer, nullptr);
    const absl::Time start = SteadyNow();
    for (uint64_t i = 0; i < kSpans; ++i) tracer->Record(Numbered(static_cast<int64_t>(i)));
    EXPECT_LT(SteadyNow() - start, absl::Seconds(10));
    EXPECT_GT(tracer->counters().dropped.value(), 0u);
    // Now the disk is back: what waited gets through, to the last byte.
    reader = std::thread([&] {
      std::ifstream file(options_.file);
      opened = true;
      for (std::string line; std::getline(file, line);) {
        read += nlohmann::json::parse(line)["resourceSpans"][0]["scopeSpans"][0]["spans"].size();
      }
    });
    WaitFor([&] {
      return opened &&
             tracer->counters().written.value() + tracer->counters().dropped.value() == kSpans;
    });
    EXPECT_EQ(tracer->counters().failures.value(), 0u);
  }
  // The writer has closed the FIFO.
  reader.join();
  EXPECT_GT(read, 0u);
  EXPECT_LT(read, kSpans);
}

TEST_F(TracerTest, AFullDiskCostsSpansAndNothingElse) {
  if (access("/dev/full", W_OK) != 0) GTEST_SKIP() << "there is no /dev/full";
  options_.file = "/dev/full";
  const auto tracer = Start();
  ASSERT_NE(tracer, nullptr);
  for (int i = 0; i < 3; ++i) tracer->Record(Numbered(i));
  WaitFor([&] { return tracer->counters().dropped.value() == 3; });
  EXPECT_GE(tracer->counters().failures.value(), 1u);
  EXPECT_EQ(tracer->counters().written.value(), 0u);
}

TEST_F(TracerTest, GoesOnBehindALineThatWasCutShort) {
  std::ofstream(options_.file) << "{\"resourceSpans\": [{\"reso";
  { Start()->Record(Numbered(1)); }
  EXPECT_EQ(Numbers(options_.file), (std::vector<int64_t>{-1, 1}));
  { Start()->Record(Numbered(2)); }
  EXPECT_EQ(Numbers(options_.file), (std::vector<int64_t>{-1, 1, 2}));
}

TEST_F(TracerTest, AFileHasABound) {
  options_.max_file_bytes = 4000;
  options_.flush_interval = absl::Milliseconds(1);
  const auto tracer = Start();
  for (int i = 0; i < 60; ++i) {
    tracer->Record(Numbered(i));
    WaitFor([&] { return tracer->counters().written.value() == static_cast<uint64_t>(i) + 1; });
  }
  EXPECT_LE(fs::file_size(options_.file), 4000u);
  EXPECT_LE(fs::file_size(options_.file + ".1"), 4000u);
  // The latest, without a gap.
  std::vector<int64_t> numbers = Numbers(options_.file + ".1");
  for (const int64_t number : Numbers(options_.file)) numbers.push_back(number);
  ASSERT_GT(numbers.size(), 5u);
  for (size_t i = 0; i < numbers.size(); ++i) {
    EXPECT_EQ(numbers[i], 60 - static_cast<int64_t>(numbers.size() - i));
  }
}

}  // namespace
}  // namespace strata::trace
