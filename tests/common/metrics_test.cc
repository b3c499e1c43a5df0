// The endpoint over real connections, and what a page makes of numbers.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <ctime>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <new>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "common/metrics/exporter.h"
#include "common/metrics/histogram.h"
#include "common/metrics/page.h"
#include "common/metrics/process_metrics.h"

namespace strata::metrics {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// A socket; -1 if nobody listens.
int Connect(const std::string& address) {
  int port = 0;
  EXPECT_TRUE(absl::SimpleAtoi(address.substr(address.rfind(':') + 1), &port)) << address;
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(port));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) == 0) return fd;
  close(fd);
  return -1;
}

// The whole answer to a request, headers and body; empty if there is none.
std::string Send(const std::string& address, const std::string& request) {
  std::string answer;
  if (const int fd = Connect(address); fd >= 0) {
    // May be refused before it was read to its end.
    send(fd, request.data(), request.size(), MSG_NOSIGNAL);
    char buffer[4096];
    for (ssize_t n = 0; (n = read(fd, buffer, sizeof(buffer))) > 0;) answer.append(buffer, n);
    close(fd);
  }
  return answer;
}

std::string Get(const std::string& address, const std::string& path) {
  return Send(address, "GET " + path + " HTTP/1.0\r\n\r\n");
}

std::unique_ptr<Exporter> StartExporter(const std::string& port_file = "") {
  auto exporter = Exporter::Start({"127.0.0.1:0", port_file});
  EXPECT_TRUE(exporter.ok()) << exporter.status();
  return *std::move(exporter);
}

TEST(Exporter, ServesWhatIsRegisteredAndNothingElse) {
  const auto exporter = StartExporter();
  int asked = 0;
  {
    const auto first = exporter->Add([&](Page& page) {
      ++asked;
      page.AddCounter("apples_total", "Apples.", 3, {{"kind", "red \"1\"\n"}});
      page.AddCounter("apples_total", "Apples.", 4, {{"kind", "green"}});
    });
    const auto second = exporter->Add([](Page& page) { page.AddGauge("pears", "Pears.", 2.5); });
    const std::string answer = Get(exporter->address(), "/metrics");
    EXPECT_THAT(answer, HasSubstr("200 OK"));
    EXPECT_THAT(answer, HasSubstr("# TYPE apples_total counter\n"
                                  "apples_total{kind=\"red \\\"1\\\"\\n\"} 3\n"
                                  "apples_total{kind=\"green\"} 4\n"));
    EXPECT_THAT(answer, HasSubstr("pears 2.5\n"));
    EXPECT_EQ(asked, 1);
    EXPECT_THAT(Get(exporter->address(), "/"), HasSubstr("404"));
    EXPECT_EQ(asked, 1);
  }
  const std::string answer = Get(exporter->address(), "/metrics");
  EXPECT_THAT(answer, HasSubstr("200 OK"));
  EXPECT_THAT(answer, Not(HasSubstr("apples")));
  EXPECT_EQ(asked, 1);
}

TEST(Exporter, ASourceThatThrowsHidesNoOther) {
  const auto exporter = StartExporter();
  const auto bad = exporter->Add([](Page&) { throw std::bad_alloc(); });
  const auto good = exporter->Add([](Page& page) { page.AddGauge("pears", "Pears.", 1); });
  EXPECT_THAT(Get(exporter->address(), "/metrics"), HasSubstr("pears 1\n"));
}

// What is registered may hold the address of what is about to be destroyed.
TEST(Exporter, ARegistrationThatEndedIsNotBeingAsked) {
  const auto exporter = StartExporter();
  std::atomic<bool> stop = false;
  std::thread scraper([&] {
    while (!stop) Get(exporter->address(), "/metrics");
  });
  for (int i = 0; i < 200; ++i) {
    auto number = std::make_unique<int>(i);
    auto registration = exporter->Add(
        [raw = number.get()](Page& page) { page.AddGauge("number", "A number.", *raw); });
    std::this_thread::yield();
    registration = {};
    // A scrape that still read it would be seen by the address sanitizer.
    *number = -1;
    number.reset();
  }
  stop = true;
  scraper.join();
}

TEST(Exporter, ARegistrationMayOutliveIt) {
  Exporter::Registration registration;
  registration = StartExporter()->Add([](Page&) {});
}

TEST(Exporter, AnAddressThatCannotBeBoundIsAnError) {
  const auto exporter = StartExporter();
  const auto second = Exporter::Start({exporter->address(), ""});
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr("cannot serve metrics on '" + exporter->address() + "'"));
  // Of nobody's machine (RFC 5737).
  EXPECT_EQ(Exporter::Start({"192.0.2.1:0", ""}).status().code(), absl::StatusCode::kUnavailable);
  for (const char* listen :
       {"8080", ":8080", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:80s",
        "127.0.0.1:0,127.0.0.1:0", "127.0.0.1:-1", "a b:1", "+1:1", "unix:/tmp/x"}) {
    EXPECT_EQ(Exporter::Start({listen, ""}).status().code(), absl::StatusCode::kInvalidArgument)
        << listen;
  }
}

// As much as a CUDA build of LibTorch has; each thread's stack has to hold it.
thread_local std::array<char, 512 << 10> thread_local_data;

TEST(Exporter, StartsBesideLargeThreadLocalData) {
  const size_t at = static_cast<size_t>(getpid()) % thread_local_data.size();
  EXPECT_EQ(++thread_local_data[at], 1);
  const auto exporter = StartExporter();
  EXPECT_THAT(Get(exporter->address(), "/metrics"), HasSubstr("200 OK"));
}

// Who connects and says nothing, or not all, keeps neither others nor the end waiting.
TEST(Exporter, ASilentScraperHoldsUpNobody) {
  auto exporter = StartExporter();
  std::vector<int> silent;
  for (int i = 0; i < 16; ++i) {
    silent.push_back(Connect(exporter->address()));
    ASSERT_GE(silent.back(), 0);
    if (i % 2 == 0) {
      ASSERT_EQ(write(silent.back(), "GET /met", 8), 8);
    }
  }
  EXPECT_THAT(Get(exporter->address(), "/metrics"), HasSubstr("200 OK"));
  const auto start = std::chrono::steady_clock::now();
  exporter.reset();
  // Far below what a silent connection is given.
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
  for (const int fd : silent) {
    char byte;
    EXPECT_LE(read(fd, &byte, 1), 0);
    close(fd);
  }
}

TEST(Exporter, OtherRequestsAreRefused) {
  const auto exporter = StartExporter();
  EXPECT_THAT(Send(exporter->address(), "HEAD /metrics HTTP/1.0\r\n\r\n"), HasSubstr("200 OK"));
  EXPECT_THAT(Send(exporter->address(), "POST /metrics HTTP/1.0\r\nContent-Length: 2\r\n\r\nab"),
              HasSubstr("405"));
  EXPECT_THAT(Send(exporter->address(), "nonsense\r\n\r\n"), Not(HasSubstr("200 OK")));
  // Longer than a connection's memory.
  EXPECT_THAT(Send(exporter->address(), "GET /" + std::string(1 << 20, 'a')),
              Not(HasSubstr("200 OK")));
  EXPECT_THAT(Get(exporter->address(), "/metrics"), HasSubstr("200 OK"));
}

TEST(Exporter, ServesIpv6) {
  const int probe = socket(AF_INET6, SOCK_STREAM, 0);
  sockaddr_in6 loopback{};
  loopback.sin6_family = AF_INET6;
  loopback.sin6_addr = in6addr_loopback;
  const bool has = probe >= 0 &&
                   bind(probe, reinterpret_cast<const sockaddr*>(&loopback), sizeof(loopback)) == 0;
  if (probe >= 0) close(probe);
  if (!has) GTEST_SKIP() << "this machine has no IPv6";
  const auto exporter = Exporter::Start({"[::1]:0", ""});
  ASSERT_TRUE(exporter.ok()) << exporter.status();
  EXPECT_THAT((*exporter)->address(), testing::StartsWith("[::1]:"));
  EXPECT_THAT((*exporter)->address(), Not(testing::EndsWith(":0")));
}

TEST(Exporter, WithoutAnAddressNothingIsServed) {
  const auto exporter = Exporter::Start({});
  ASSERT_TRUE(exporter.ok());
  EXPECT_EQ((*exporter)->address(), "");
  const auto registration = (*exporter)->Add([](Page&) { FAIL(); });
}

TEST(Exporter, WritesWhereItListens) {
  const std::string path = testing::TempDir() + "/metrics_port_" + std::to_string(getpid());
  const auto exporter = StartExporter(path);
  std::ifstream file(path);
  const std::string written((std::istreambuf_iterator<char>(file)), {});
  EXPECT_EQ(written, exporter->address() + "\n");
  EXPECT_THAT(Get(exporter->address(), "/metrics"), HasSubstr("200 OK"));
  unlink(path.c_str());
  EXPECT_FALSE(Exporter::Start({"127.0.0.1:0", "/nowhere/at/all"}).ok());
}

TEST(SecondsHistogram, CountsAValueUpToItsBound) {
  SecondsHistogram histogram;
  for (const double seconds : {0.0, 0.0001, 0.00011, 1.0, 300.0, 301.0}) histogram.Observe(seconds);
  const HistogramSnapshot snapshot = histogram.Snapshot();
  ASSERT_EQ(snapshot.counts.size(), snapshot.bounds.size() + 1);
  EXPECT_EQ(snapshot.counts.front(), 2u);
  EXPECT_EQ(snapshot.counts[1], 1u);
  EXPECT_EQ(snapshot.counts.back(), 1u);
  EXPECT_EQ(std::accumulate(snapshot.counts.begin(), snapshot.counts.end(), uint64_t{0}), 6u);
  EXPECT_NEAR(snapshot.sum, 602.00021, 1e-9);

  Page page;
  page.AddHistogram("h_seconds", "H.", snapshot);
  const auto families = page.TakeFamilies();
  const auto& out = families.at(0).metric.at(0).histogram;
  EXPECT_EQ(out.sample_count, 6u);
  ASSERT_EQ(out.bucket.size(), snapshot.counts.size());
  EXPECT_EQ(out.bucket[1].cumulative_count, 3u);
  EXPECT_EQ(out.bucket.back().cumulative_count, 6u);
  EXPECT_TRUE(std::isinf(out.bucket.back().upper_bound));
}

TEST(SecondsHistogram, LosesNothingBetweenThreads) {
  SecondsHistogram histogram;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 10000; ++i) histogram.Observe(0.5);
    });
  }
  for (std::thread& thread : threads) thread.join();
  const HistogramSnapshot snapshot = histogram.Snapshot();
  EXPECT_EQ(std::accumulate(snapshot.counts.begin(), snapshot.counts.end(), uint64_t{0}), 40000u);
  EXPECT_EQ(snapshot.sum, 20000);
}

TEST(Process, TellsWhatPrometheusExpects) {
  Page page;
  CollectProcess(page);
  std::map<std::string, double> values;
  for (const auto& family : page.TakeFamilies()) {
    const auto& metric = family.metric.at(0);
    values[family.name] = metric.counter.value + metric.gauge.value;
  }
  EXPECT_GT(values["process_resident_memory_bytes"], 1e6);
  EXPECT_GE(values["process_cpu_seconds_total"], 0);
  EXPECT_GT(values["process_open_fds"], 2);
  EXPECT_GE(values["process_max_fds"], values["process_open_fds"]);
  const double now = static_cast<double>(time(nullptr));
  EXPECT_GT(values["process_start_time_seconds"], now - 86400);
  EXPECT_LE(values["process_start_time_seconds"], now + 2);
}

}  // namespace
}  // namespace strata::metrics
