// What clients get of a real model when its drafts are verified: tokens drawn from the model's own
// distribution, computed here by its definition, and nothing of what happened to be drafted.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <numeric>
#include <ostream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "services/verify/engine/engine.h"
#include "services/verify/engine/sampling.h"
#include "tests/engine/chi_square.h"
#include "tests/engine/test_paths.h"

namespace strata::engine {
namespace {

constexpr uint64_t kSeeds = 20000;

struct Case {
  const char* name;
  SamplingParams params;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

// By generate.proto's SamplingParameters, in its order; of filters top-p alone.
std::vector<double> ByDefinition(std::span<const float> logits, const SamplingParams& params,
                                 const std::vector<int32_t>& prompt,
                                 const std::vector<int32_t>& output) {
  std::vector<double> p(logits.begin(), logits.end());
  std::map<int32_t, bool> in_output;
  for (const int32_t token : prompt) in_output[token];
  for (const int32_t token : output) in_output[token] = true;
  for (const auto& [token, by_output] : in_output) {
    p[token] =
        p[token] > 0 ? p[token] / params.repetition_penalty : p[token] * params.repetition_penalty;
    if (by_output) p[token] -= params.presence_penalty;
  }
  const double most = *std::max_element(p.begin(), p.end());
  for (double& x : p) x = std::exp((x - most) / params.temperature);
  const auto normalise = [&] {
    const double total = std::accumulate(p.begin(), p.end(), 0.0);
    for (double& x : p) x /= total;
  };
  normalise();
  if (params.top_p == 1) return p;
  std::vector<int32_t> order(p.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return p[a] > p[b]; });
  double kept = 0;
  for (const int32_t token : order) {
    if (kept >= params.top_p) p[token] = 0;
    kept += p[token];
  }
  normalise();
  return p;
}

class SampledTree : public ::testing::TestWithParam<Case> {};

TEST_P(SampledTree, TokensAreDrawnFromTheModel) {
  const std::string model_dir = testing::RequiredEnv("STRATA_TEST_MODEL");
  if (model_dir.empty()) return;
  EngineOptions options;
  options.model_dir = model_dir;
  options.device = testing::TestDevice();
  options.kv_tokens = 1024;
  options.self_check = false;
  auto engine = Engine::Load(options);
  ASSERT_TRUE(engine.ok()) << engine.status().message();
  const int64_t vocab = (*engine)->info().vocab_size;
  const SamplingParams& base = GetParam().params;

  const std::vector<int32_t> prompt = {504, 2365, 282, 4649, 314, 7042, 30, 378, 2365, 282};
  auto sequence = (*engine)->NewSequence();
  const auto rows_of = [](size_t count) {
    std::vector<int32_t> rows(count);
    std::iota(rows.begin(), rows.end(), 0);
    return rows;
  };
  ForwardOutput output;
  const std::vector<int32_t> last = {static_cast<int32_t>(prompt.size()) - 1};
  const SequenceInput prefill{sequence.get(), prompt, {}, last};
  ASSERT_TRUE((*engine)->Forward({&prefill, 1}, output).ok());
  ASSERT_TRUE((*engine)->Commit(*sequence, rows_of(prompt.size())).ok());
  const std::vector<float> first(output.logits.begin(), output.logits.end());

  // The likeliest two, below each of them its likeliest; a node that is hardly ever right.
  const auto best = [](std::span<const float> logits, int rank) {
    std::vector<int32_t> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    std::partial_sort(order.begin(), order.begin() + rank + 1, order.end(),
                      [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
    return order[rank];
  };
  std::vector<int32_t> tree = {best(first, 0), best(first, 1), best(first, 1000)};
  std::vector<int32_t> parents = {-1, -1, -1};
  {
    const std::vector<int32_t> rows = rows_of(tree.size());
    const SequenceInput input{sequence.get(), tree, parents, rows};
    ASSERT_TRUE((*engine)->Forward({&input, 1}, output).ok());
  }
  for (int32_t parent : {0, 1}) {
    for (int rank : {0, 1}) {
      tree.push_back(best(output.row(parent), rank));
      parents.push_back(parent);
    }
  }
  const std::vector<int32_t> rows = rows_of(tree.size());
  const SequenceInput input{sequence.get(), tree, parents, rows};
  ASSERT_TRUE((*engine)->Forward({&input, 1}, output).ok());
  std::vector<float> logits = first;
  logits.insert(logits.end(), output.logits.begin(), output.logits.end());

  struct Drawn {
    // By path: how often each token was drawn after it.
    std::map<std::vector<int32_t>, std::vector<int>> counts;
    int accepted = 0;
  };
  std::array<Drawn, 2> halves;
  {
    std::vector<std::jthread> threads;
    for (size_t half = 0; half < halves.size(); ++half) {
      threads.emplace_back([&, half] {
        TokenHistory history;
        history.AddPrompt(prompt);
        SamplerScratch scratch;
        SamplingParams params = base;
        for (params.seed = half; params.seed < kSeeds; params.seed += halves.size()) {
          const VerifiedPath path = VerifyTree(tree, parents, logits, vocab, params, history,
                                               prompt.size(), {}, 0, scratch);
          halves[half].accepted += static_cast<int>(path.nodes.size());
          std::vector<int32_t> before;
          for (const int32_t token : path.tokens) {
            auto& drawn = halves[half].counts[before];
            drawn.resize(vocab);
            ++drawn[token];
            before.push_back(token);
          }
        }
      });
    }
  }
  auto& counts = halves[0].counts;
  for (const auto& [path, drawn] : halves[1].counts) {
    auto& sum = counts[path];
    sum.resize(vocab);
    for (int64_t i = 0; i < vocab; ++i) sum[i] += drawn[i];
  }
  EXPECT_GT(halves[0].accepted + halves[1].accepted, static_cast<int>(kSeeds / 10))
      << "what is accepted is what this looks at";

  std::set<size_t> depths;
  std::string seen;
  for (const auto& [path, drawn] : counts) {
    const int draws = std::accumulate(drawn.begin(), drawn.end(), 0);
    seen += " " + std::to_string(draws) + " at depth " + std::to_string(path.size());
    if (draws < 200) continue;
    // The row of the last node of the path.
    int32_t node = -1;
    for (const int32_t token : path) {
      int32_t child = 0;
      while (parents[child] != node || tree[child] != token) ++child;
      node = child;
    }
    const std::span<const float> row(logits.data() + (node + 1) * vocab,
                                     static_cast<size_t>(vocab));
    SCOPED_TRACE(::testing::Message() << draws << " draws after node " << node);
    EXPECT_GT(testing::ExpectDrawnFrom(drawn, ByDefinition(row, base, prompt, path),
                                       testing::kQuantile99999),
              2);
    depths.insert(path.size());
  }
  EXPECT_EQ(depths, (std::set<size_t>{0, 1, 2})) << seen;
}

INSTANTIATE_TEST_SUITE_P(Parameters, SampledTree,
                         ::testing::Values(Case{"Temperature", {.temperature = 0.8f}},
                                           Case{"TopPAndPenalties",
                                                {.temperature = 1.0f,
                                                 .top_p = 0.9f,
                                                 .repetition_penalty = 1.1f,
                                                 .presence_penalty = 0.5f}}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace strata::engine
