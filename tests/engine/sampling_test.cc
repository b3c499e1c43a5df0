#include "services/verify/engine/sampling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "services/verify/engine/philox.h"
#include "services/verify/engine/ranking.h"
#include "tests/engine/chi_square.h"

namespace strata::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr float kInf = std::numeric_limits<float>::infinity();
const float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<float> RandomLogits(std::mt19937_64& random, int size, float scale = 3.0f) {
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> logits(size);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

// --- The generator ---

// Known answers of the authors' Random123 1.14 distribution (kat_vectors).
TEST(Philox, KnownAnswers) {
  struct Case {
    std::array<uint32_t, 4> counter;
    std::array<uint32_t, 2> key;
    std::array<uint32_t, 4> answer;
  };
  const Case cases[] = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
       {0xffffffff, 0xffffffff},
       {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       {0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (const Case& c : cases) {
    PhiloxState<1> x;
    for (int i = 0; i < 4; ++i) x[i][0] = c.counter[i];
    Philox4x32<1>(x, c.key[0], c.key[1]);
    for (int i = 0; i < 4; ++i) EXPECT_EQ(x[i][0], c.answer[i]);
  }
}

TEST(Philox, BatchEqualsSingle) {
  std::array<uint32_t, 4 * kPhiloxBatch> bits;
  for (const int32_t first : {0, 64, 151936 - 64}) {
    for (const uint64_t position : {uint64_t{0}, uint64_t{77}, uint64_t{1} << 40}) {
      PhiloxTokens(0x123456789abcdefULL, position, first, bits);
      for (int i = 0; i < 4 * kPhiloxBatch; ++i) {
        ASSERT_EQ(bits[i], PhiloxToken(0x123456789abcdefULL, position, first + i));
      }
    }
  }
}

TEST(GumbelNoise, DependsOnEveryArgument) {
  EXPECT_EQ(GumbelNoise(1, 2, 3), GumbelNoise(1, 2, 3));
  EXPECT_NE(GumbelNoise(1, 2, 3), GumbelNoise(2, 2, 3));
  EXPECT_NE(GumbelNoise(1, 2, 3), GumbelNoise(1 + (uint64_t{1} << 32), 2, 3));
  EXPECT_NE(GumbelNoise(1, 2, 3), GumbelNoise(1, 3, 3));
  EXPECT_NE(GumbelNoise(1, 2, 3), GumbelNoise(1, 2 + (uint64_t{1} << 32), 3));
  EXPECT_NE(GumbelNoise(1, 2, 3), GumbelNoise(1, 2, 4));
}

// Kolmogorov-Smirnov against exp(-exp(-x)); 1.95 / sqrt(n) is the 0.1 % level.
TEST(GumbelNoise, HasTheGumbelDistribution) {
  constexpr int kDraws = 100000;
  std::vector<double> noise(kDraws);
  for (int i = 0; i < kDraws; ++i) noise[i] = GumbelNoise(42, i / 1000, i % 1000);
  std::sort(noise.begin(), noise.end());
  double distance = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double expected = std::exp(-std::exp(-noise[i]));
    distance =
        std::max({distance, expected - i / double{kDraws}, (i + 1) / double{kDraws} - expected});
  }
  EXPECT_LT(distance, 1.95 / std::sqrt(kDraws));
}

// --- A second implementation, straight from the definition ---

std::vector<double> ReferenceScores(const std::vector<float>& logits, const SamplingParams& params,
                                    const TokenHistory& history) {
  std::vector<float> values(logits);
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isnan(values[i])) values[i] = -kInf;
    const auto it = history.counts().find(static_cast<int32_t>(i));
    if (it == history.counts().end()) continue;
    values[i] = values[i] > 0 ? values[i] / params.repetition_penalty
                              : values[i] * params.repetition_penalty;
    if (it->second.output > 0) {
      values[i] -= params.presence_penalty;
      values[i] -= params.frequency_penalty * static_cast<float>(it->second.output);
    }
  }
  const float largest = *std::max_element(values.begin(), values.end());
  std::vector<int32_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return values[a] > values[b]; });
  std::vector<double> scores(values.size(), -kInf);
  if (params.temperature == 0) {
    scores[order[0]] = 0;
    return scores;
  }
  size_t keep = order.size();
  if (params.top_k > 0) keep = std::min<size_t>(keep, params.top_k);
  const auto scaled = [&](int32_t id) { return (values[id] - largest) / params.temperature; };
  if (params.top_p < 1) {
    double total = 0;
    for (size_t i = 0; i < keep; ++i) total += std::exp(scaled(order[i]));
    double sum = 0;
    size_t i = 0;
    while (i < keep && sum < params.top_p * total) sum += std::exp(scaled(order[i++]));
    keep = i;
  }
  for (size_t i = 0; i < keep; ++i) {
    if (params.min_p > 0 && scaled(order[i]) < std::log(params.min_p)) break;
    scores[order[i]] = scaled(order[i]);
  }
  return scores;
}

int32_t ReferenceSample(const std::vector<float>& logits, const SamplingParams& params,
                        const TokenHistory& history, uint64_t position) {
  std::vector<double> scores = ReferenceScores(logits, params, history);
  int32_t best = 0;
  for (size_t i = 0; i < scores.size(); ++i) {
    if (params.temperature > 0) scores[i] += GumbelNoise(params.seed, position, i);
    if (scores[i] > scores[best]) best = static_cast<int32_t>(i);
  }
  return best;
}

std::vector<SamplingParams> ParameterSets() {
  return {
      {},
      {.repetition_penalty = 1.3f, .presence_penalty = 0.4f, .frequency_penalty = 0.2f},
      {.temperature = 1.0f, .seed = 1},
      {.temperature = 0.8f, .seed = 1234567890123ULL},
      {.temperature = 0.01f, .seed = 3},
      {.temperature = 50.0f, .seed = 4},
      {.temperature = 1.0f, .top_k = 1, .seed = 5},
      {.temperature = 1.2f, .top_k = 7, .seed = 6},
      {.temperature = 1.0f, .top_p = 0.9f, .seed = 7},
      {.temperature = 1.0f, .top_p = 1e-6f, .seed = 8},
      {.temperature = 1.0f, .min_p = 0.05f, .seed = 9},
      {.temperature = 1.5f, .top_k = 20, .top_p = 0.8f, .min_p = 0.02f, .seed = 10},
      {.temperature = 1.0f,
       .top_p = 0.9f,
       .repetition_penalty = 1.2f,
       .presence_penalty = 0.5f,
       .frequency_penalty = 0.25f,
       .seed = 11},
      {.temperature = 0.7f, .repetition_penalty = 0.8f, .presence_penalty = -0.5f, .seed = 12},
  };
}

TokenHistory SomeHistory() {
  TokenHistory history;
  history.AddPrompt(std::vector<int32_t>{1, 2, 2, 5});
  for (const int32_t token : {2, 3, 3, 9}) history.Push(token);
  return history;
}

// The bounds that skip tokens and blocks never change a draw.
TEST(SampleToken, EqualsTheDefinition) {
  std::mt19937_64 random(7);
  SamplerScratch scratch;
  const TokenHistory history = SomeHistory();
  for (const SamplingParams& params : ParameterSets()) {
    for (int round = 0; round < 200; ++round) {
      const int size = std::uniform_int_distribution<int>(1, 700)(random);
      std::vector<float> logits = RandomLogits(random, size, round % 3 == 0 ? 0.1f : 4.0f);
      // Ties and holes.
      if (round % 4 == 1) {
        for (float& logit : logits) logit = std::round(logit);
      }
      if (round % 4 == 2 && size > 2) logits[1] = kNan, logits[2] = -kInf;
      ASSERT_EQ(SampleToken(logits, params, history, round, scratch),
                ReferenceSample(logits, params, history, round))
          << "temperature " << params.temperature << ", round " << round << ", size " << size;
    }
  }
}

TEST(SampleToken, EqualsTheDefinitionOnALargeVocabulary) {
  std::mt19937_64 random(8);
  SamplerScratch scratch;
  const TokenHistory history = SomeHistory();
  for (const SamplingParams& params : ParameterSets()) {
    for (int round = 0; round < 3; ++round) {
      const std::vector<float> logits = RandomLogits(random, 49152 - round);
      ASSERT_EQ(SampleToken(logits, params, history, round, scratch),
                ReferenceSample(logits, params, history, round));
    }
  }
}

TEST(SampleToken, GreedyTakesTheLowestIdAndIgnoresNan) {
  SamplerScratch scratch;
  const TokenHistory none;
  EXPECT_EQ(SampleToken(std::vector<float>{kNan, 1, 2, 2, -kInf}, {}, none, 0, scratch), 2);
  EXPECT_EQ(SampleToken(std::vector<float>{-kInf, kNan, -5}, {}, none, 0, scratch), 2);
}

TEST(SampleToken, ATinyTemperatureIsGreedy) {
  SamplerScratch scratch;
  const TokenHistory none;
  const std::vector<float> logits = {-3, 4, 3.99f, -kInf};
  for (uint64_t position = 0; position < 100; ++position) {
    for (const float temperature : {1e-4f, 1e-30f, std::numeric_limits<float>::denorm_min()}) {
      EXPECT_EQ(
          SampleToken(logits, {.temperature = temperature, .seed = 1}, none, position, scratch), 1);
    }
  }
}

TEST(SampleToken, HistoryOutsideTheVocabularyIsHarmless) {
  SamplerScratch scratch;
  TokenHistory history;
  history.AddPrompt(std::vector<int32_t>{-1, 1000});
  EXPECT_EQ(SampleToken(std::vector<float>{1, 2}, {.repetition_penalty = 2}, history, 0, scratch),
            1);
}

// --- Penalties and filters ---

TEST(SamplingDistribution, PenaltiesByHand) {
  TokenHistory history;
  history.AddPrompt(std::vector<int32_t>{0, 1});
  history.Push(1);
  history.Push(1);
  history.Push(2);
  const std::vector<float> logits = {2, 2, -1, 0};
  const SamplingParams params = {.temperature = 1,
                                 .repetition_penalty = 2,
                                 .presence_penalty = 0.5f,
                                 .frequency_penalty = 0.25f};
  // Prompt alone: repetition. Output: all three, frequency by count.
  const double expected[] = {1.0, 1.0 - 0.5 - 0.5, -2.0 - 0.5 - 0.25, 0.0};
  double total = 0;
  for (const double value : expected) total += std::exp(value);
  const std::vector<double> actual = SamplingDistribution(logits, params, history);
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(actual[i], std::exp(expected[i]) / total, 1e-6);
}

TEST(SamplingDistribution, FiltersBreakTiesByLowestId) {
  const TokenHistory none;
  const std::vector<float> logits = {0, 1, 1, 1, 0};
  EXPECT_THAT(SamplingDistribution(logits, {.temperature = 1, .top_k = 2}, none),
              ElementsAre(0, 0.5, 0.5, 0, 0));
  EXPECT_THAT(SamplingDistribution(logits, {.temperature = 1, .top_p = 0.01f}, none),
              ElementsAre(0, 1, 0, 0, 0));
  EXPECT_THAT(SamplingDistribution(logits, {.temperature = 1, .min_p = 1}, none),
              ElementsAre(0, ::testing::DoubleEq(1.0 / 3), ::testing::DoubleEq(1.0 / 3),
                          ::testing::DoubleEq(1.0 / 3), 0));
}

TEST(SamplingDistribution, TopPKeepsTheSmallestSufficientSet) {
  const TokenHistory none;
  const std::vector<float> logits = {std::log(0.1f), std::log(0.5f), std::log(0.3f),
                                     std::log(0.1f)};
  const auto kept = [&](float top_p, int32_t top_k = 0) {
    std::vector<int> ids;
    const auto p =
        SamplingDistribution(logits, {.temperature = 1, .top_k = top_k, .top_p = top_p}, none);
    for (int i = 0; i < 4; ++i) {
      if (p[i] > 0) ids.push_back(i);
    }
    return ids;
  };
  EXPECT_THAT(kept(0.45f), ElementsAre(1));
  EXPECT_THAT(kept(0.55f), ElementsAre(1, 2));
  EXPECT_THAT(kept(0.85f), ElementsAre(0, 1, 2));
  EXPECT_THAT(kept(0.95f), ElementsAre(0, 1, 2, 3));
  // After top-k, top-p counts among what is left: 0.5 / 0.8 is 0.625.
  EXPECT_THAT(kept(0.6f, 2), ElementsAre(1));
  EXPECT_THAT(kept(0.65f, 2), ElementsAre(1, 2));
}

TEST(TokenHistory, PopUndoesPush) {
  TokenHistory history;
  history.AddPrompt(std::vector<int32_t>{4});
  history.Push(4);
  history.Push(5);
  EXPECT_EQ(history.counts().at(4).output, 1);
  history.Pop();
  EXPECT_EQ(history.counts().count(5), 0u);
  history.Pop();
  EXPECT_EQ(history.counts().at(4).output, 0);
  EXPECT_EQ(history.counts().at(4).prompt, 1);
  history.Pop();
  EXPECT_EQ(history.counts().size(), 1u);
}

// --- Sampled frequencies ---

TEST(SampleToken, FrequenciesMatchTheDistribution) {
  constexpr int kDraws = 40000;
  std::mt19937_64 random(11);
  SamplerScratch scratch;
  const TokenHistory history = SomeHistory();
  for (SamplingParams params : ParameterSets()) {
    if (params.temperature == 0) continue;
    for (const int size : {12, 300}) {
      const std::vector<float> logits = RandomLogits(random, size, 1.5f);
      const std::vector<double> expected = SamplingDistribution(logits, params, history);
      EXPECT_NEAR(std::accumulate(expected.begin(), expected.end(), 0.0), 1.0, 1e-9);
      std::vector<int> counts(size);
      for (int i = 0; i < kDraws; ++i) {
        // As positions of one stream, and as streams of one position.
        params.seed = i % 2 == 0 ? 99 : 1000 + i;
        ++counts[SampleToken(logits, params, history, i % 2 == 0 ? i : 17, scratch)];
      }
      SCOPED_TRACE(::testing::Message()
                   << "temperature " << params.temperature << ", " << size << " tokens");
      testing::ExpectDrawnFrom(counts, expected);
    }
  }
}

// Draws at neighbouring positions are independent: pairs follow the product.
TEST(SampleToken, NeighbouringPositionsAreIndependent) {
  constexpr int kDraws = 60000;
  const std::vector<float> logits = {0.5f, 0.0f, -0.5f, 0.2f};
  const SamplingParams params = {.temperature = 1, .seed = 5};
  const TokenHistory none;
  SamplerScratch scratch;
  const std::vector<double> p = SamplingDistribution(logits, params, none);
  std::array<int, 16> counts{};
  for (int i = 0; i < kDraws; ++i) {
    const int first = SampleToken(logits, params, none, 2 * i, scratch);
    const int second = SampleToken(logits, params, none, 2 * i + 1, scratch);
    ++counts[4 * first + second];
  }
  double statistic = 0;
  for (int i = 0; i < 16; ++i) {
    const double mean = p[i / 4] * p[i % 4] * kDraws;
    statistic += (counts[i] - mean) * (counts[i] - mean) / mean;
  }
  EXPECT_LT(statistic, testing::ChiSquareLimit(15, testing::kQuantile999));
}

// --- Log-probabilities ---

TEST(LogProbability, EqualsTheDefinition) {
  const std::vector<float> logits = {1, 2, kNan, -kInf, 2};
  const double total = std::exp(1.0) + 2 * std::exp(2.0);
  EXPECT_NEAR(LogProbability(logits, 0), 1 - std::log(total), 1e-5);
  EXPECT_EQ(LogProbability(logits, 2), -kInf);
  EXPECT_EQ(LogProbability(logits, 3), -kInf);
  EXPECT_EQ(LogProbability(logits, 5), -kInf);
  const std::vector<TokenLogprob> top = TopLogProbabilities(logits, 3);
  ASSERT_EQ(top.size(), 3u);
  EXPECT_EQ(top[0].id, 1);
  EXPECT_EQ(top[1].id, 4);
  EXPECT_EQ(top[2].id, 0);
  EXPECT_EQ(top[2].logprob, LogProbability(logits, 0));
  EXPECT_THAT(TopLogProbabilities(logits, 0), IsEmpty());
  EXPECT_EQ(TopLogProbabilities(logits, 20).size(), 5u);
}

TEST(LogProbability, LargeLogitsDoNotOverflow) {
  EXPECT_NEAR(LogProbability(std::vector<float>{1000, 1000}, 0), std::log(0.5), 1e-5);
}

// --- Verification ---

constexpr int kVocabulary = 6;

// A "model": logits that depend on the whole path, and nothing else.
std::vector<float> PathLogits(uint64_t model, const std::vector<int32_t>& path) {
  uint64_t state = model;
  for (const int32_t token : path) state = (state ^ (token + 1)) * 0x9E3779B97F4A7C15ULL + 1;
  std::mt19937_64 random(state);
  return RandomLogits(random, kVocabulary, 1.0f);
}

// As ForwardOutput::block_max has them.
std::vector<float> RowMaxima(const std::vector<float>& logits, int64_t vocab_size) {
  const int64_t rows = static_cast<int64_t>(logits.size()) / vocab_size;
  std::vector<float> maxima(static_cast<size_t>(rows * LogitBlocks(vocab_size)));
  for (int64_t row = 0; row < rows; ++row) {
    BlockMaxima(std::span(logits).subspan(row * vocab_size, vocab_size),
                maxima.data() + row * LogitBlocks(vocab_size));
  }
  return maxima;
}

struct Tree {
  std::vector<int32_t> tokens;
  std::vector<int32_t> parents;
};

Tree RandomTree(std::mt19937_64& random, int nodes) {
  Tree tree;
  for (int i = 0; i < nodes; ++i) {
    const int32_t parent = std::uniform_int_distribution<int>(-1, i - 1)(random);
    const int32_t token = std::uniform_int_distribution<int>(0, kVocabulary - 1)(random);
    bool taken = false;
    for (size_t j = 0; j < tree.tokens.size(); ++j) {
      taken |= tree.parents[j] == parent && tree.tokens[j] == token;
    }
    if (taken) continue;
    tree.tokens.push_back(token);
    // i counts tries; a parent must be a node that exists.
    tree.parents.push_back(std::min<int32_t>(parent, static_cast<int32_t>(tree.tokens.size()) - 2));
    // Clamping may have made a twin; drop it.
    for (size_t j = 0; j + 1 < tree.tokens.size(); ++j) {
      if (tree.parents[j] == tree.parents.back() && tree.tokens[j] == tree.tokens.back()) {
        tree.tokens.pop_back();
        tree.parents.pop_back();
        break;
      }
    }
  }
  return tree;
}

std::vector<int32_t> PathTo(const Tree& tree, int32_t node) {
  std::vector<int32_t> path;
  for (; node >= 0; node = tree.parents[node]) path.push_back(tree.tokens[node]);
  std::reverse(path.begin(), path.end());
  return path;
}

// Whole streams: made with random trees, they equal the stream made one token at
// a time, for every parameter set, with final tokens and a limit.
TEST(VerifyTree, StreamsEqualPlainDecoding) {
  std::mt19937_64 random(3);
  SamplerScratch scratch;
  int64_t accepted = 0;
  int64_t finals = 0;
  for (const SamplingParams& params : ParameterSets()) {
    for (uint64_t round = 0; round < 250; ++round) {
      const uint64_t model = random();
      const std::vector<int32_t> prompt = {0, 3, 3};
      const int64_t limit = 1 + static_cast<int64_t>(round % 23);
      std::vector<int32_t> final_tokens;
      if (round % 2 == 1) final_tokens = {5, 2};

      std::vector<int32_t> plain = prompt;
      TokenHistory history;
      history.AddPrompt(prompt);
      for (int64_t i = 0; i < limit; ++i) {
        const int32_t token =
            SampleToken(PathLogits(model, plain), params, history, plain.size(), scratch);
        plain.push_back(token);
        history.Push(token);
        if (std::count(final_tokens.begin(), final_tokens.end(), token) > 0) {
          ++finals;
          break;
        }
      }

      std::vector<int32_t> drafted = prompt;
      TokenHistory tree_history;
      tree_history.AddPrompt(prompt);
      bool ended = false;
      while (!ended) {
        Tree tree = RandomTree(random, static_cast<int>(random() % 40));
        std::vector<float> logits;
        for (int32_t row = -1; row < static_cast<int32_t>(tree.tokens.size()); ++row) {
          std::vector<int32_t> path = drafted;
          for (const int32_t token : PathTo(tree, row)) path.push_back(token);
          const std::vector<float> one = PathLogits(model, path);
          logits.insert(logits.end(), one.begin(), one.end());
        }
        const int64_t left = limit - static_cast<int64_t>(drafted.size() - prompt.size());
        const auto before = tree_history.counts().size();
        const VerifiedPath result =
            VerifyTree(tree.tokens, tree.parents, logits, kVocabulary, params, tree_history,
                       drafted.size(), final_tokens, left, scratch);
        ASSERT_EQ(tree_history.counts().size(), before);
        const VerifiedPath by_blocks =
            VerifyTree(tree.tokens, tree.parents, logits, kVocabulary, params, tree_history,
                       drafted.size(), final_tokens, left, scratch, RowMaxima(logits, kVocabulary));
        ASSERT_EQ(by_blocks.nodes, result.nodes);
        ASSERT_EQ(by_blocks.tokens, result.tokens);
        // The nodes are a path from the root and carry the first tokens. One more
        // token follows, unless the last node's own token ended the stream.
        ASSERT_EQ(result.tokens.size(), result.nodes.size() + 1);
        for (size_t i = 0; i < result.nodes.size(); ++i) {
          ASSERT_EQ(tree.tokens[result.nodes[i]], result.tokens[i]);
          ASSERT_EQ(tree.parents[result.nodes[i]], i == 0 ? -1 : result.nodes[i - 1]);
        }
        accepted += result.nodes.size();
        for (const int32_t token : result.tokens) {
          drafted.push_back(token);
          tree_history.Push(token);
          ended |= std::count(final_tokens.begin(), final_tokens.end(), token) > 0;
        }
        ended |= static_cast<int64_t>(drafted.size() - prompt.size()) >= limit;
      }
      ASSERT_EQ(drafted, plain) << "temperature " << params.temperature << ", round " << round;
    }
  }
  // The cases are worth something only if drafts were accepted and streams ended early.
  EXPECT_GT(accepted, 5000);
  EXPECT_GT(finals, 500);
}

// Trees whose rows have several blocks, the last one not whole, with ties, infinities and NaN.
TEST(VerifyTree, GreedyTokensByBlocksAreThoseOfWholeRows) {
  constexpr int64_t kManyTokens = 1000;
  std::mt19937_64 random(8);
  SamplerScratch scratch;
  TokenHistory history;
  std::set<int32_t> drawn;
  size_t accepted = 0;
  for (int round = 0; round < 2000; ++round) {
    Tree tree = RandomTree(random, static_cast<int>(random() % 6));
    const size_t rows = 1 + tree.tokens.size();
    // Few values, so that ties are many, in one block and across blocks.
    const auto values = static_cast<float>(1 + random() % (round % 2 == 0 ? 3 : 5000));
    std::vector<float> logits(rows * kManyTokens);
    for (float& logit : logits) {
      logit = std::floor(std::uniform_real_distribution<float>(-values, values)(random));
      if (random() % 10 == 0) logit = random() % 2 == 0 ? kNan : -kInf;
    }
    if (round % 50 == 0) logits[random() % logits.size()] = kInf;
    if (round == 1) std::fill(logits.begin(), logits.end(), kNan);
    // Most nodes hold what their parent's row says.
    for (size_t i = 0; i < tree.tokens.size(); ++i) {
      if (random() % 4 == 0) continue;
      const auto row = std::span(logits).subspan((tree.parents[i] + 1) * kManyTokens, kManyTokens);
      tree.tokens[i] = SampleToken(row, {}, history, 0, scratch);
    }
    const VerifiedPath whole =
        VerifyTree(tree.tokens, tree.parents, logits, kManyTokens, {}, history, 0, {}, 0, scratch);
    const VerifiedPath by_blocks =
        VerifyTree(tree.tokens, tree.parents, logits, kManyTokens, {}, history, 0, {}, 0, scratch,
                   RowMaxima(logits, kManyTokens));
    ASSERT_EQ(by_blocks.tokens, whole.tokens) << "round " << round;
    ASSERT_EQ(by_blocks.nodes, whole.nodes) << "round " << round;
    accepted += whole.nodes.size();
    drawn.insert(whole.tokens.begin(), whole.tokens.end());
  }
  EXPECT_GT(drawn.size(), 500u);
  EXPECT_GT(accepted, 2000u);
}

TEST(VerifyTree, AcceptsTheLongestMatchingPath) {
  // Greedy, logits say 1, 2, 3 in turn. Node 0 is wrong, 1 -> 3 -> (2 is a decoy).
  const std::vector<int32_t> tokens = {0, 1, 3, 2};
  const std::vector<int32_t> parents = {-1, -1, 1, 1};
  std::vector<float> logits(5 * kVocabulary, 0.0f);
  const auto say = [&](int row, int token) { logits[row * kVocabulary + token] = 1; };
  say(0, 1);  // after the last token
  say(1, 5);  // after node 0: never read
  say(2, 2);  // after node 1
  say(4, 3);  // after node 3
  TokenHistory history;
  SamplerScratch scratch;
  VerifiedPath path =
      VerifyTree(tokens, parents, logits, kVocabulary, {}, history, 0, {}, 0, scratch);
  EXPECT_THAT(path.nodes, ElementsAre(1, 3));
  EXPECT_THAT(path.tokens, ElementsAre(1, 2, 3));
  EXPECT_THAT(history.counts(), IsEmpty());

  // A final token ends the path where it is drawn, though the tree goes on.
  const std::vector<int32_t> final_tokens = {1};
  path = VerifyTree(tokens, parents, logits, kVocabulary, {}, history, 0, final_tokens, 0, scratch);
  EXPECT_THAT(path.nodes, IsEmpty());
  EXPECT_THAT(path.tokens, ElementsAre(1));

  path = VerifyTree(tokens, parents, logits, kVocabulary, {}, history, 0, {}, 2, scratch);
  EXPECT_THAT(path.nodes, ElementsAre(1));
  EXPECT_THAT(path.tokens, ElementsAre(1, 2));

  path = VerifyTree({}, {}, std::span<const float>(logits).first(kVocabulary), kVocabulary, {},
                    history, 0, {}, 0, scratch);
  EXPECT_THAT(path.tokens, ElementsAre(1));
}

// Each node has its own history: with a presence penalty that forbids repeats, a
// model which always says the same walks down the vocabulary, also inside a tree.
TEST(VerifyTree, PenaltiesFollowThePath) {
  const std::vector<int32_t> tokens = {0, 0, 1, 2};
  const std::vector<int32_t> parents = {-1, 0, 0, 2};  // 0 -> (0, 1 -> 2)
  std::vector<float> logits;
  for (int row = 0; row < 5; ++row) {
    for (const float logit : {5.f, 4.f, 3.f, 2.f, 1.f, 0.f}) logits.push_back(logit);
  }
  TokenHistory history;
  SamplerScratch scratch;
  const VerifiedPath path = VerifyTree(tokens, parents, logits, kVocabulary,
                                       {.presence_penalty = 100}, history, 0, {}, 0, scratch);
  EXPECT_THAT(path.nodes, ElementsAre(0, 2, 3));
  EXPECT_THAT(path.tokens, ElementsAre(0, 1, 2, 3));
}

// --- Validation ---

TEST(ValidateSamplingParams, NamesTheParameterAndWhatIsAllowed) {
  EXPECT_TRUE(ValidateSamplingParams({}).ok());
  for (const SamplingParams& params : ParameterSets()) {
    EXPECT_TRUE(ValidateSamplingParams(params).ok());
  }
  const struct {
    SamplingParams params;
    const char* message;
  } cases[] = {
      {{.temperature = -1}, "temperature is -1; it must be finite and at least 0"},
      {{.temperature = kNan}, "temperature is"},
      {{.temperature = kInf}, "temperature is inf"},
      {{.top_k = -2}, "top_k is -2"},
      {{.top_p = 0}, "top_p is 0; it must be greater than 0 and at most 1"},
      {{.top_p = 1.5f}, "top_p is 1.5"},
      {{.top_p = kNan}, "top_p is"},
      {{.min_p = -0.5f}, "min_p is -0.5; it must be from 0 to 1"},
      {{.min_p = 2}, "min_p is 2"},
      {{.min_p = kNan}, "min_p is"},
      {{.repetition_penalty = 0}, "repetition_penalty is 0"},
      {{.repetition_penalty = kInf}, "repetition_penalty is inf"},
      {{.presence_penalty = kNan}, "presence_penalty is"},
      {{.frequency_penalty = kInf}, "frequency_penalty is inf; it must be finite"},
  };
  for (const auto& c : cases) {
    const Status status = ValidateSamplingParams(c.params);
    EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument) << c.message;
    EXPECT_THAT(status.message(), HasSubstr(c.message));
  }
}

}  // namespace
}  // namespace strata::engine
