// Opens a snapshot, asks it about many contexts, and prints what that took as JSON.
//
//   corpus_probe SNAPSHOT CACHE_MIB LOOKUPS
//
// The contexts are random walks through the corpus itself, each step to one of the continuations
// told, so that they spread over all of it.

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <random>
#include <vector>

#include "services/draft/corpus/corpus_tier.h"

namespace strata::draft {
namespace {

using Clock = std::chrono::steady_clock;

double Microseconds(Clock::duration duration) {
  return std::chrono::duration<double, std::micro>(duration).count();
}

uint64_t ResidentBytes() {
  std::ifstream in("/proc/self/statm");
  uint64_t size = 0, resident = 0;
  in >> size >> resident;
  return resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

int Main(const std::string& snapshot, size_t cache_bytes, uint64_t lookups) {
  const uint64_t rss_before = ResidentBytes();
  const auto opening = Clock::now();
  auto tier = CorpusTier::Open(snapshot, cache_bytes);
  const double open_us = Microseconds(Clock::now() - opening);
  if (!tier.ok()) {
    std::fprintf(stderr, "corpus_probe: %s\n", tier.status().ToString().c_str());
    return 1;
  }
  std::mt19937_64 random(1);
  std::vector<double> times;
  times.reserve(lookups);
  uint64_t rss_peak = 0, matched = 0, orders = 0;
  ContextTail tail;
  Evidence evidence;
  for (uint64_t i = 0; i < lookups; ++i) {
    if (i % 64 == 0) {
      const TokenId token =
          static_cast<TokenId>(random() % static_cast<uint64_t>((*tier)->vocab_size()));
      tail = ContextTail().Extended(token);
    }
    const MatchQuery query = {&tail, kMaxContextOrder};
    const auto begin = Clock::now();
    (*tier)->Match({&query, 1}, kMaxLevels, {&evidence, 1});
    times.push_back(Microseconds(Clock::now() - begin));
    if (evidence.levels == 0) {
      tail = ContextTail();
      i += 63 - i % 64;
      continue;
    }
    ++matched;
    orders += static_cast<uint64_t>(evidence.longest());
    // Now and then from a shorter context, or the walk would stay in one document.
    const ContextCounts& level =
        evidence.level[random() % 4 == 0 ? static_cast<size_t>(evidence.levels - 1) : 0];
    tail = tail.Extended(level.continuations[random() % level.size].token);
    if (i % 4096 == 0) rss_peak = std::max(rss_peak, ResidentBytes());
  }
  rss_peak = std::max(rss_peak, ResidentBytes());
  std::sort(times.begin(), times.end());
  std::printf(
      "{\"open_ms\": %.1f, \"lookups\": %zu, \"mean_order\": %.2f, \"p50_us\": %.2f, "
      "\"p99_us\": %.2f, \"rss_bytes\": %llu, \"rss_before_bytes\": %llu, "
      "\"damaged\": %llu}\n",
      open_us / 1000, times.size(),
      static_cast<double>(orders) / static_cast<double>(std::max<uint64_t>(matched, 1)),
      times[times.size() / 2], times[times.size() * 99 / 100],
      static_cast<unsigned long long>(rss_peak), static_cast<unsigned long long>(rss_before),
      static_cast<unsigned long long>((*tier)->damaged_values()));
  return 0;
}

}  // namespace
}  // namespace strata::draft

int main(int argc, char** argv) {
  if (argc != 4 || std::atoll(argv[3]) < 1) {
    std::fprintf(stderr, "usage: %s SNAPSHOT CACHE_MIB LOOKUPS\n", argv[0]);
    return 2;
  }
  return strata::draft::Main(argv[1], static_cast<size_t>(std::atoll(argv[2])) << 20,
                             static_cast<uint64_t>(std::atoll(argv[3])));
}
