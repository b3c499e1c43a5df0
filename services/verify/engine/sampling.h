#ifndef STRATA_SERVICES_VERIFY_ENGINE_SAMPLING_H_
#define STRATA_SERVICES_VERIFY_ENGINE_SAMPLING_H_

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "services/verify/engine/status.h"

// Sampling by the Gumbel-max trick with a counter-based generator: the token at
// position p is argmax(log-probability + Gumbel(seed, p, id)), a pure function of
// the logits, the parameters, the history and (seed, p). No state, so a tree node
// and a plain decode step at the same position draw the same token.
namespace strata::engine {

struct SamplingParams {
  float temperature = 0.0f;  // 0 is greedy
  int32_t top_k = 0;         // 0 keeps all
  float top_p = 1.0f;        // (0, 1]
  float min_p = 0.0f;        // [0, 1]
  float repetition_penalty = 1.0f;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  uint64_t seed = 0;
};

// INVALID_ARGUMENT names the parameter, its value and what is allowed.
Status ValidateSamplingParams(const SamplingParams& params);

// Whether the token drawn is that of the row's greatest logit, whatever came before.
bool TakesGreatest(const SamplingParams& params);

// Which tokens occurred, for the penalties. Not thread-safe.
class TokenHistory {
 public:
  void AddPrompt(std::span<const int32_t> tokens);
  // Appends an output token; Pop takes the last one back (for tree nodes).
  void Push(int32_t token);
  void Pop();

  struct Counts {
    int32_t prompt = 0;
    int32_t output = 0;
  };
  const std::unordered_map<int32_t, Counts>& counts() const { return counts_; }

 private:
  std::unordered_map<int32_t, Counts> counts_;
  std::vector<int32_t> output_;
};

// Standard Gumbel noise, a pure function of its arguments (Philox4x32-10, Salmon
// et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011).
float GumbelNoise(uint64_t seed, uint64_t position, int32_t token);

// Reusable buffers; one per thread.
struct SamplerScratch {
  std::vector<float> values;
  std::vector<int32_t> ids;
  std::vector<float> weights;
  std::vector<double> buckets;
};

// Draws the token at absolute `position` (prompt and output counted together).
// Ties go to the lowest id. Requires finite or -inf logits with at least one
// finite value; NaN counts as -inf.
int32_t SampleToken(std::span<const float> logits, const SamplingParams& params,
                    const TokenHistory& history, uint64_t position, SamplerScratch& scratch);

// The probabilities SampleToken draws from (after penalties, temperature and
// filters); for tests and statistics.
std::vector<double> SamplingDistribution(std::span<const float> logits,
                                         const SamplingParams& params, const TokenHistory& history);

struct TokenLogprob {
  int32_t id = 0;
  float logprob = 0.0f;
};
// Natural log-probability of `token` under softmax(logits), and the `top` best.
float LogProbability(std::span<const float> logits, int32_t token);
std::vector<TokenLogprob> TopLogProbabilities(std::span<const float> logits, int32_t top);

// What verification of one tree found.
struct VerifiedPath {
  // Indices of the accepted draft nodes, root to leaf.
  std::vector<int32_t> nodes;
  // The tokens: those of `nodes`, then one more drawn from the model.
  std::vector<int32_t> tokens;
};

// Sample, then match (DESIGN.md, "Lossless means identical"): draws the token
// after each accepted row; goes on to the drafted child that equals it, if any.
// logits: row 0 belongs to the sequence's last token, row 1 + i to draft node i.
// parents[i] < i, or -1 for a child of the last token. position is that of the
// first token drawn. `history` is as before the first draw, and is so again afterwards.
// Stops after a token of `final_tokens` (end-of-sequence ids), and after max_tokens > 0 tokens.
// `block_max`: the greatest logit of each block of each row (ForwardOutput::block_max), with which
// a greedy row need not be read; empty if not at hand.
VerifiedPath VerifyTree(std::span<const int32_t> tokens, std::span<const int32_t> parents,
                        std::span<const float> logits, int64_t vocab_size,
                        const SamplingParams& params, TokenHistory& history, uint64_t position,
                        std::span<const int32_t> final_tokens, int64_t max_tokens,
                        SamplerScratch& scratch, std::span<const float> block_max = {});

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_SAMPLING_H_
