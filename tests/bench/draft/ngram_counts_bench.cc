// How fast the in-memory tiers index and answer. One thread; for figures, run it on an idle core:
// taskset -c 1 bin/ngram_counts_bench.

#include <benchmark/benchmark.h>

#include <cmath>
#include <random>
#include <span>
#include <vector>

#include "services/draft/tiers/context_tier.h"
#include "services/draft/tiers/evidence.h"
#include "services/draft/tiers/model_tier.h"

namespace strata::draft {
namespace {

constexpr int kVocabulary = 49152;

// Text whose contexts repeat about as they do in language: with probability `copied` a stretch
// goes on that was there before, else a token comes by Zipf's law.
std::vector<TokenId> SyntheticText(size_t size, double copied, uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> uniform(0, 1);
  std::vector<TokenId> text;
  text.reserve(size);
  size_t source = 0;
  while (text.size() < size) {
    if (source > 0 && uniform(random) < 0.9) {
      text.push_back(text[source++]);
      continue;
    }
    source = text.size() > 64 && uniform(random) < copied ? random() % (text.size() - 32) : 0;
    // The inverse of the cumulated 1/rank.
    text.push_back(static_cast<TokenId>(std::pow(kVocabulary, uniform(random))) - 1);
  }
  return text;
}

// A prompt in one piece; items are tokens.
void BM_IndexPrompt(benchmark::State& state) {
  const auto text = SyntheticText(static_cast<size_t>(state.range(0)), 0.1, 1);
  size_t bytes = 0;
  for ([[maybe_unused]] const auto _ : state) {
    ContextTier tier;
    tier.Append(text);
    bytes = tier.bytes();
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
  state.counters["bytes/token"] = static_cast<double>(bytes) / static_cast<double>(text.size());
}
// 131072: the default limit of a sequence.
BENCHMARK(BM_IndexPrompt)->Arg(256)->Arg(4096)->Arg(65536)->Arg(131072)->Arg(1 << 20);

// An output, four accepted tokens a step, behind a prompt of 4,096.
void BM_AppendSteps(benchmark::State& state) {
  const auto text = SyntheticText(8192, 0.1, 2);
  for ([[maybe_unused]] const auto _ : state) {
    state.PauseTiming();
    ContextTier tier;
    tier.Append(std::span(text).first(4096));
    state.ResumeTiming();
    for (size_t at = 4096; at < text.size(); at += 4) tier.Append(std::span(text).subspan(at, 4));
  }
  state.SetItemsProcessed(state.iterations() * 4096);
}
BENCHMARK(BM_AppendSteps);

// Queries of contexts that occur, in batches; items are queries. Arguments: tokens in the tier,
// queries a batch.
template <typename TierType>
void MatchIn(benchmark::State& state, const TierType& tier, std::span<const TokenId> text) {
  std::mt19937 random(3);
  std::vector<ContextTail> tails;
  tails.reserve(4096);
  for (int i = 0; i < 4096; ++i) {
    tails.emplace_back(text.first(16 + random() % (text.size() - 16)).last(kMaxContextOrder));
  }
  const auto batch = static_cast<size_t>(state.range(1));
  std::vector<MatchQuery> queries(batch);
  std::vector<Evidence> answers(batch);
  size_t next = 0;
  for ([[maybe_unused]] const auto _ : state) {
    for (MatchQuery& query : queries) query.tail = &tails[next++ % tails.size()];
    tier.Match(queries, kMaxLevels, answers);
    benchmark::DoNotOptimize(answers.data());
  }
  state.SetItemsProcessed(state.iterations() * state.range(1));
}

void BM_MatchContext(benchmark::State& state) {
  const auto text = SyntheticText(static_cast<size_t>(state.range(0)), 0.1, 4);
  ContextTier tier;
  tier.Append(text);
  MatchIn(state, tier, text);
}
BENCHMARK(BM_MatchContext)->Args({2048, 1})->Args({65536, 1})->Args({65536, 16});

void BM_MatchModel(benchmark::State& state) {
  const auto text = SyntheticText(static_cast<size_t>(state.range(0)), 0.1, 5);
  ModelTier tier;
  for (size_t at = 0; at + 72 < text.size(); at += 64) {
    tier.Append(std::span(text).subspan(at, 72), 7, 71);
  }
  MatchIn(state, tier, text);
  state.counters["bytes/token"] =
      static_cast<double>(tier.bytes()) / static_cast<double>(text.size());
}
BENCHMARK(BM_MatchModel)->Args({1 << 19, 1})->Args({1 << 19, 16});

}  // namespace
}  // namespace strata::draft

BENCHMARK_MAIN();
