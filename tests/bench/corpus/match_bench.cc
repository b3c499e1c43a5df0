// Times CorpusTier::Match on the contexts of recorded answers.
//
//   corpus_match_bench --snapshot=DIR --replay=FILE.jsonl [Google Benchmark's flags]
//
// Cached: every context is in the cache of decoded contexts. BlockCacheWarm: none is, all blocks
// are. Cold: neither; blocks come from the page cache and are decompressed each time.
// The last argument is the number of queries a call; times are per call.

#include <benchmark/benchmark.h>

#include <cstdio>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "services/draft/corpus/corpus_tier.h"

namespace strata::draft {
namespace {

std::string g_snapshot;
std::vector<ContextTail> g_tails;

// The tail at every output token of every row.
bool ReadTails(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  while (std::getline(in, line)) {
    const auto row = nlohmann::json::parse(line, nullptr, false);
    if (!row.is_object() || !row.contains("output_tokens")) return false;
    std::vector<TokenId> tokens;
    for (const auto& token : row["output_tokens"]) {
      tokens.push_back(token.get<TokenId>());
      g_tails.emplace_back(tokens);
    }
  }
  return !g_tails.empty();
}

void Run(benchmark::State& state, size_t cache_bytes, size_t context_bytes, bool warm) {
  auto tier =
      CorpusTier::Open(g_snapshot, std::make_shared<CorpusCache>(cache_bytes, context_bytes));
  if (!tier.ok()) {
    state.SkipWithError(tier.status().ToString().c_str());
    return;
  }
  const size_t batch = static_cast<size_t>(state.range(0));
  const size_t used = std::min<size_t>(g_tails.size(), 8192) / batch * batch;
  std::vector<MatchQuery> queries;
  for (size_t i = 0; i < used; ++i) queries.push_back({&g_tails[i], kMaxContextOrder});
  std::vector<Evidence> answers(batch);
  const auto ask = [&](size_t at) {
    (*tier)->Match(std::span(queries).subspan(at, batch), kMaxLevels, answers);
  };
  size_t orders = 0;
  for (size_t at = 0; warm && at < used; at += batch) {
    ask(at);
    for (const Evidence& answer : answers) orders += static_cast<size_t>(answer.longest());
  }
  size_t at = 0;
  for ([[maybe_unused]] const auto _ : state) {
    ask(at);
    benchmark::DoNotOptimize(answers.data());
    at = at + batch < used ? at + batch : 0;
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(batch));
  if (warm) state.counters["longest"] = static_cast<double>(orders) / static_cast<double>(used);
}

void Cached(benchmark::State& state) { Run(state, size_t{1} << 30, size_t{256} << 20, true); }
void BlockCacheWarm(benchmark::State& state) { Run(state, size_t{1} << 30, 0, true); }
void Cold(benchmark::State& state) { Run(state, 0, 0, false); }

BENCHMARK(Cached)->Arg(1)->Arg(4)->Arg(16);
BENCHMARK(BlockCacheWarm)->Arg(1)->Arg(4)->Arg(16);
BENCHMARK(Cold)->Arg(1)->Arg(16);

// Takes --name=VALUE out of the arguments.
std::string TakeFlag(std::string_view name, int& argc, char** argv) {
  std::string value;
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.starts_with(name) && argument.substr(name.size()).starts_with('=')) {
      value = argument.substr(name.size() + 1);
    } else {
      argv[kept++] = argv[i];
    }
  }
  argc = kept;
  return value;
}

}  // namespace
}  // namespace strata::draft

int main(int argc, char** argv) {
  using namespace strata::draft;
  g_snapshot = TakeFlag("--snapshot", argc, argv);
  const std::string replay = TakeFlag("--replay", argc, argv);
  benchmark::Initialize(&argc, argv);
  if (g_snapshot.empty() || replay.empty() || benchmark::ReportUnrecognizedArguments(argc, argv)) {
    std::fprintf(stderr, "usage: %s --snapshot=DIR --replay=FILE.jsonl\n", argv[0]);
    return 2;
  }
  if (!ReadTails(replay)) {
    std::fprintf(stderr, "%s: no rows with output_tokens\n", replay.c_str());
    return 1;
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
