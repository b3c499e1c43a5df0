#include "services/verify/engine/sampling.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <numeric>
#include <sstream>

#include "services/verify/engine/philox.h"
#include "services/verify/engine/ranking.h"
#include "services/verify/engine/simd.h"

namespace strata::engine {
namespace {

constexpr float kNegativeInfinity = -std::numeric_limits<float>::infinity();

// Tokens handled together: their noise comes from one call of the generator.
constexpr int32_t kBlockTokens = 4 * kPhiloxBatch;
struct NoiseBlock {
  std::array<uint32_t, kBlockTokens> bits;
  std::array<float, kBlockTokens> bounds;
};

// -log(-log(u)) for the uniform u = (bits + 0.5) / 2^32. Never 0 or 1, so the
// noise is finite, in [-3.2, 22.9].
double GumbelFromBits(uint32_t bits) {
  const double u = (static_cast<double>(bits) + 0.5) * 0x1p-32;
  return -std::log(-std::log(u));
}

// An upper bound of GumbelFromBits without logarithms: -log(u) >= 1 - u, and
// 1 - u = (~bits + 0.5) / 2^32 >= 2^-(1 + leading zeros of ~bits), so the noise is
// at most (1 + leading zeros) * ln 2. The slack covers the rounding of float sums.
constexpr float kBoundSlack = 1e-3f;
constexpr float kLn2Up = 0.6931473f;
constexpr float kLargestNoise = 33 * kLn2Up + kBoundSlack;

// NaN counts as -inf, +inf as the largest number, so that differences are defined.
float Clean(float logit) {
  return std::isnan(logit) ? kNegativeInfinity : std::min(logit, std::numeric_limits<float>::max());
}

// -inf if empty. Sixteen running maxima, so that the compiler vectorizes the loop;
// NaN never wins a comparison.
float Largest(std::span<const float> values) {
  constexpr size_t kMaxima = 16;
  std::array<float, kMaxima> lanes;
  lanes.fill(kNegativeInfinity);
  size_t i = 0;
  for (; i + kMaxima <= values.size(); i += kMaxima) {
    for (size_t j = 0; j < kMaxima; ++j) {
      lanes[j] = values[i + j] > lanes[j] ? values[i + j] : lanes[j];
    }
  }
  float largest = *std::max_element(lanes.begin(), lanes.end());
  for (; i < values.size(); ++i) largest = values[i] > largest ? values[i] : largest;
  return largest;
}

// The lowest id of the largest value; 0 if none is above -inf.
int32_t ArgMax(std::span<const float> values) {
  const float largest = Largest(values);
  if (largest == kNegativeInfinity) return 0;
  return static_cast<int32_t>(std::find(values.begin(), values.end(), largest) - values.begin());
}

bool HasPenalties(const SamplingParams& params) {
  return params.repetition_penalty != 1.0f || params.presence_penalty != 0.0f ||
         params.frequency_penalty != 0.0f;
}

// values = cleaned logits with the penalties of the tokens in `history`.
void PenalizedLogits(std::span<const float> logits, const SamplingParams& params,
                     const TokenHistory& history, std::vector<float>& values) {
  values.resize(logits.size());
  std::transform(logits.begin(), logits.end(), values.begin(), Clean);
  if (!HasPenalties(params)) return;
  // Tokens are independent, so the map's order does not matter.
  for (const auto& [token, counts] : history.counts()) {
    if (token < 0 || static_cast<size_t>(token) >= values.size()) continue;
    float value = values[token];
    if (params.repetition_penalty != 1.0f) {
      value = value > 0 ? value / params.repetition_penalty : value * params.repetition_penalty;
    }
    if (counts.output > 0) {
      value -= params.presence_penalty;
      value -= params.frequency_penalty * static_cast<float>(counts.output);
    }
    values[token] = Clean(value);
  }
}

// Values become (value - largest) / temperature: log-probabilities up to a
// constant, the largest exactly 0 however small the temperature.
void ApplyTemperature(float temperature, std::vector<float>& values) {
  const float largest = Largest(values);
  if (largest == kNegativeInfinity) {
    std::fill(values.begin(), values.end(), 0.0f);
    return;
  }
  for (float& value : values) value = (value - largest) / temperature;
}

// The last token that the filters keep, in the order of falling value, then
// rising id. Every filter keeps a prefix of that order.
struct Cutoff {
  float value = kNegativeInfinity;
  int32_t id = std::numeric_limits<int32_t>::max();
  bool Keeps(float v, int32_t i) const { return v > value || (v == value && i <= id); }
};

// Values are at most 0, and the bits of non-negative floats rise with the float: so
// the upper bits of -value sort tokens into buckets, the most likely first.
// 8 bits of exponent and 4 of mantissa keep a bucket within 7 % of the distance
// from the top.
constexpr int kBucketBits = 12;
constexpr int kBuckets = 1 << kBucketBits;
int Bucket(float value) {
  return static_cast<int>(std::bit_cast<uint32_t>(std::fabs(value)) >> (31 - kBucketBits));
}

// Finds the first token, in the order of falling value, at which the weights of
// the tokens so far reach target(the weight of all that are kept); the last one kept if none does.
// weight(id) is a token's weight. Linear in the vocabulary: only one bucket is sorted.
template <typename Weight, typename Target>
Cutoff ReachTarget(const std::vector<float>& values, Cutoff kept, Weight weight, Target target_of,
                   SamplerScratch& scratch) {
  const auto size = static_cast<int32_t>(values.size());
  scratch.buckets.assign(kBuckets, 0.0);
  for (int32_t i = 0; i < size; ++i) {
    if (kept.Keeps(values[i], i)) scratch.buckets[Bucket(values[i])] += weight(i);
  }
  const double target =
      target_of(std::accumulate(scratch.buckets.begin(), scratch.buckets.end(), 0.0));
  double reached = 0;
  int bucket = 0;
  while (bucket < kBuckets && reached + scratch.buckets[bucket] < target) {
    reached += scratch.buckets[bucket++];
  }
  if (bucket == kBuckets) return kept;
  scratch.ids.clear();
  for (int32_t i = 0; i < size; ++i) {
    if (kept.Keeps(values[i], i) && Bucket(values[i]) == bucket) scratch.ids.push_back(i);
  }
  std::sort(scratch.ids.begin(), scratch.ids.end(), [&values](int32_t a, int32_t b) {
    return values[a] != values[b] ? values[a] > values[b] : a < b;
  });
  for (const int32_t id : scratch.ids) {
    reached += weight(id);
    if (reached >= target) return {values[id], id};
  }
  // The bucket's sum, taken in another order, was a rounding error larger.
  if (scratch.ids.empty()) return kept;
  return {values[scratch.ids.back()], scratch.ids.back()};
}

// e^value, of values that are at most 0; 0 where that is next to nothing.
STRATA_CLONES void Exponentials(const float* values, int64_t count, float* out) {
  constexpr float kLowest = -87.0f;
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    F32x8 value, exponential;
    Load(values + i, value);
    Exp(value, exponential);
    exponential = value > kLowest ? exponential : F32x8{};
    Store(exponential, out + i);
  }
  for (; i < count; ++i) {
    // As the lanes do it.
    F32x8 value, exponential;
    Fill(values[i], value);
    Exp(value, exponential);
    out[i] = values[i] > kLowest ? exponential[0] : 0.0f;
  }
}

// The common end of top-k, top-p and min-p. values: as ApplyTemperature leaves them.
Cutoff ApplyFilters(const std::vector<float>& values, const SamplingParams& params,
                    SamplerScratch& scratch) {
  Cutoff kept;
  if (params.top_k > 0 && static_cast<size_t>(params.top_k) < values.size()) {
    kept = ReachTarget(
        values, kept, [](int32_t) { return 1.0; }, [&](double) { return params.top_k; }, scratch);
  }
  if (params.top_p < 1.0f) {
    scratch.weights.resize(values.size());
    Exponentials(values.data(), static_cast<int64_t>(values.size()), scratch.weights.data());
    kept = ReachTarget(
        values, kept, [&](int32_t id) { return static_cast<double>(scratch.weights[id]); },
        [&](double total) { return params.top_p * total; }, scratch);
  }
  if (params.min_p > 0.0f) {
    const float lowest = std::log(params.min_p);
    if (lowest > kept.value) kept = {lowest, std::numeric_limits<int32_t>::max()};
  }
  return kept;
}

// A block's random bits, and of each token an upper bound of its score, value + noise. Returns the
// largest bound.
STRATA_CLONES float BoundScores(uint64_t seed, uint64_t position, int32_t first,
                                const float* values, NoiseBlock& block) {
  PhiloxTokens(seed, position, first, block.bits);
  F32x8 largest;
  Fill(kNegativeInfinity, largest);
  for (int i = 0; i < kBlockTokens; i += kLanes) {
    U32x8 bits;
    std::memcpy(&bits, block.bits.data() + i, sizeof(bits));
    // The leading zeros, from the exponent of a float: of the upper bits alone, which it holds
    // exactly. None of them set gives the exponent -127, and so a bound that is too high.
    const U32x8 upper = (~bits >> 1) & 0x7FFFFF80u;
    const F32x8 as_float = __builtin_convertvector(std::bit_cast<I32x8>(upper), F32x8);
    const I32x8 log2 = (std::bit_cast<I32x8>(as_float) >> 23) - 127;
    const F32x8 noise = __builtin_convertvector(31 - log2, F32x8) * kLn2Up + kBoundSlack;
    F32x8 value;
    Load(values + i, value);
    const F32x8 bound = value + noise;
    Store(bound, block.bounds.data() + i);
    largest = bound > largest ? bound : largest;
  }
  float result = largest[0];
  for (int i = 1; i < kLanes; ++i) result = largest[i] > result ? largest[i] : result;
  return result;
}

// argmax(value + noise) over the kept tokens. Exact, though most logarithms and
// whole blocks are skipped: a token is passed over only if an upper bound of its
// noise cannot lift it to the best score so far.
int32_t GumbelArgMax(const std::vector<float>& values, Cutoff kept, uint64_t seed,
                     uint64_t position) {
  const auto size = static_cast<int32_t>(values.size());
  NoiseBlock block;
  std::array<float, kBlockTokens> tail;
  int32_t best = -1;
  double best_score = -std::numeric_limits<double>::infinity();
  const auto consider = [&](int32_t id, uint32_t noise_bits) {
    // The noise rounded to float, as GumbelNoise returns it.
    const double score = static_cast<double>(values[id]) +
                         static_cast<double>(static_cast<float>(GumbelFromBits(noise_bits)));
    if (score > best_score || (score == best_score && id < best)) {
      best_score = score;
      best = id;
    }
  };
  // The most likely token is always kept; its score makes the bound sharp from the start.
  const int32_t top = ArgMax(values);
  consider(top, PhiloxToken(seed, position, top));

  for (int32_t begin = 0; begin < size; begin += kBlockTokens) {
    const int32_t end = std::min(begin + kBlockTokens, size);
    const float largest = Largest(std::span(values).subspan(begin, end - begin));
    if (largest < kept.value || largest + kLargestNoise < best_score) continue;
    const float* block_values = values.data() + begin;
    if (end - begin < kBlockTokens) {
      tail.fill(kNegativeInfinity);
      std::copy(values.begin() + begin, values.begin() + end, tail.begin());
      block_values = tail.data();
    }
    if (BoundScores(seed, position, begin, block_values, block) < best_score) continue;
    for (int32_t i = begin; i < end; ++i) {
      if (block.bounds[i - begin] < best_score) continue;
      if (values[i] != kNegativeInfinity && kept.Keeps(values[i], i)) {
        consider(i, block.bits[i - begin]);
      }
    }
  }
  return best;
}

// log(sum(exp(logits))), summed in id order so that it depends on the row alone.
double LogSumExp(std::span<const float> logits) {
  if (logits.empty()) return kNegativeInfinity;
  const double largest = Clean(Largest(logits));
  if (largest == kNegativeInfinity) return kNegativeInfinity;
  double sum = 0;
  for (const float logit : logits) {
    sum += std::exp(static_cast<float>(static_cast<double>(Clean(logit)) - largest));
  }
  return largest + std::log(sum);
}

template <typename T>
Status OutOfRange(const char* name, T value, const char* allowed) {
  std::ostringstream message;
  message << name << " is " << value << "; it must be " << allowed;
  return Status(ErrorCode::kInvalidArgument, message.str());
}

}  // namespace

Status ValidateSamplingParams(const SamplingParams& params) {
  // Written so that NaN fails.
  if (!std::isfinite(params.temperature) || params.temperature < 0) {
    return OutOfRange("temperature", params.temperature, "finite and at least 0");
  }
  if (params.top_k < 0) return OutOfRange("top_k", params.top_k, "at least 0 (0 keeps all)");
  if (!(params.top_p > 0 && params.top_p <= 1)) {
    return OutOfRange("top_p", params.top_p, "greater than 0 and at most 1");
  }
  if (!(params.min_p >= 0 && params.min_p <= 1)) {
    return OutOfRange("min_p", params.min_p, "from 0 to 1");
  }
  if (!std::isfinite(params.repetition_penalty) || params.repetition_penalty <= 0) {
    return OutOfRange("repetition_penalty", params.repetition_penalty,
                      "finite and greater than 0 (1 is none)");
  }
  if (!std::isfinite(params.presence_penalty)) {
    return OutOfRange("presence_penalty", params.presence_penalty, "finite");
  }
  if (!std::isfinite(params.frequency_penalty)) {
    return OutOfRange("frequency_penalty", params.frequency_penalty, "finite");
  }
  return Status();
}

void TokenHistory::AddPrompt(std::span<const int32_t> tokens) {
  for (const int32_t token : tokens) ++counts_[token].prompt;
}

void TokenHistory::Push(int32_t token) {
  ++counts_[token].output;
  output_.push_back(token);
}

void TokenHistory::Pop() {
  if (output_.empty()) return;
  const auto it = counts_.find(output_.back());
  output_.pop_back();
  // Erased, not zeroed: the penalties walk the whole map.
  if (--it->second.output == 0 && it->second.prompt == 0) counts_.erase(it);
}

float GumbelNoise(uint64_t seed, uint64_t position, int32_t token) {
  return static_cast<float>(GumbelFromBits(PhiloxToken(seed, position, token)));
}

bool TakesGreatest(const SamplingParams& params) {
  return params.temperature <= 0 && !HasPenalties(params);
}

int32_t SampleToken(std::span<const float> logits, const SamplingParams& params,
                    const TokenHistory& history, uint64_t position, SamplerScratch& scratch) {
  if (TakesGreatest(params)) return ArgMax(logits);
  PenalizedLogits(logits, params, history, scratch.values);
  if (params.temperature <= 0) return ArgMax(scratch.values);
  ApplyTemperature(params.temperature, scratch.values);
  const Cutoff kept = ApplyFilters(scratch.values, params, scratch);
  return GumbelArgMax(scratch.values, kept, params.seed, position);
}

std::vector<double> SamplingDistribution(std::span<const float> logits,
                                         const SamplingParams& params,
                                         const TokenHistory& history) {
  SamplerScratch scratch;
  std::vector<double> probabilities(logits.size(), 0.0);
  if (logits.empty()) return probabilities;
  PenalizedLogits(logits, params, history, scratch.values);
  if (params.temperature <= 0) {
    probabilities[ArgMax(scratch.values)] = 1.0;
    return probabilities;
  }
  ApplyTemperature(params.temperature, scratch.values);
  const Cutoff kept = ApplyFilters(scratch.values, params, scratch);
  double total = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!kept.Keeps(scratch.values[i], static_cast<int32_t>(i))) continue;
    probabilities[i] = std::exp(static_cast<double>(scratch.values[i]));
    total += probabilities[i];
  }
  for (double& probability : probabilities) probability /= total;
  return probabilities;
}

float LogProbability(std::span<const float> logits, int32_t token) {
  if (token < 0 || static_cast<size_t>(token) >= logits.size()) return kNegativeInfinity;
  return static_cast<float>(static_cast<double>(Clean(logits[token])) - LogSumExp(logits));
}

std::vector<TokenLogprob> TopLogProbabilities(std::span<const float> logits, int32_t top) {
  const size_t count = std::min(static_cast<size_t>(std::max(top, 0)), logits.size());
  std::vector<TokenLogprob> best;
  if (count == 0) return best;
  const double normalizer = LogSumExp(logits);
  const auto better = [](const TokenLogprob& a, const TokenLogprob& b) {
    return a.logprob != b.logprob ? a.logprob > b.logprob : a.id < b.id;
  };
  // A heap whose front is the worst of the best; holds logits until the end.
  best.reserve(count + 1);
  for (size_t i = 0; i < logits.size(); ++i) {
    const TokenLogprob candidate{static_cast<int32_t>(i), Clean(logits[i])};
    if (best.size() == count && !better(candidate, best.front())) continue;
    best.push_back(candidate);
    std::push_heap(best.begin(), best.end(), better);
    if (best.size() > count) {
      std::pop_heap(best.begin(), best.end(), better);
      best.pop_back();
    }
  }
  std::sort_heap(best.begin(), best.end(), better);
  for (TokenLogprob& entry : best) {
    entry.logprob = static_cast<float>(static_cast<double>(entry.logprob) - normalizer);
  }
  return best;
}

VerifiedPath VerifyTree(std::span<const int32_t> tokens, std::span<const int32_t> parents,
                        std::span<const float> logits, int64_t vocab_size,
                        const SamplingParams& params, TokenHistory& history, uint64_t position,
                        std::span<const int32_t> final_tokens, int64_t max_tokens,
                        SamplerScratch& scratch, std::span<const float> block_max) {
  VerifiedPath path;
  const auto width = static_cast<size_t>(vocab_size);
  const auto nodes = static_cast<int32_t>(tokens.size());
  const auto blocks = static_cast<size_t>(LogitBlocks(vocab_size));
  const bool greatest_blocks = TakesGreatest(params) && !block_max.empty();
  int32_t node = -1;  // the row in turn is node + 1
  while (true) {
    const int32_t below = node + 1;
    const auto row_number = static_cast<size_t>(below);
    const auto row = logits.subspan(row_number * width, width);
    int32_t token = 0;
    if (greatest_blocks) {
      TopTokens(row, block_max.subspan(row_number * blocks, blocks), std::span(&token, 1));
    } else {
      token = SampleToken(row, params, history, position, scratch);
    }
    path.tokens.push_back(token);
    if (std::find(final_tokens.begin(), final_tokens.end(), token) != final_tokens.end()) break;
    if (max_tokens > 0 && static_cast<int64_t>(path.tokens.size()) >= max_tokens) break;
    int32_t child = below;  // children come after their parent
    while (child < nodes && (parents[child] != node || tokens[child] != token)) ++child;
    if (child == nodes) break;
    path.nodes.push_back(child);
    history.Push(token);
    node = child;
    ++position;
  }
  for (size_t i = 0; i < path.nodes.size(); ++i) history.Pop();
  return path;
}

}  // namespace strata::engine
