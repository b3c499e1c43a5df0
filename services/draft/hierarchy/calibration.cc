#include "services/draft/hierarchy/calibration.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace strata::draft {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

// How many observations the prior of a bucket counts for, and after how many it forgets at the
// rate it learns.
constexpr float kPriorCount = 2.0f;
constexpr float kMaxCount = 1000.0f;
constexpr float kMinProbability = 0.0005f;
// Every input counts about a third at first: those of one tier say much the same.
constexpr float kPriorWeight = 0.35f;
constexpr float kFirstRate = 0.02f;
constexpr float kLastRate = 0.001f;
// Uses of a set of weights until its rate has halved.
constexpr float kRateUses = 2000.0f;
constexpr float kConstantInput = 0.4f;
constexpr float kMaxLogOdds = 11.0f;
constexpr float kMaxWeight = 16.0f;

constexpr char kMagic[8] = {'S', 'T', 'R', 'A', 'T', 'A', 'C', 'A'};
constexpr uint32_t kVersion = 1;

float LogOdds(float probability) {
  const float p = std::clamp(probability, kMinProbability, 1.0f - kMinProbability);
  return std::log(p / (1.0f - p));
}

float Probability(float log_odds) {
  return 1.0f / (1.0f + std::exp(-std::clamp(log_odds, -kMaxLogOdds, kMaxLogOdds)));
}

int TotalClass(uint32_t total, int classes) {
  return std::min(static_cast<int>(std::bit_width(std::max(total, 1u))), classes) - 1;
}

template <typename T>
void Put(std::string& bytes, T value) {
  const size_t at = bytes.size();
  bytes.resize(at + sizeof(T));
  std::memcpy(bytes.data() + at, &value, sizeof(T));
}

template <typename T>
bool Take(absl::string_view& bytes, T& value) {
  if (bytes.size() < sizeof(T)) return false;
  std::memcpy(&value, bytes.data(), sizeof(T));
  bytes.remove_prefix(sizeof(T));
  return true;
}

bool TakeInRange(absl::string_view& bytes, float min, float max, std::atomic<float>& to) {
  float value = 0;
  // Written so that NaN fails too.
  if (!Take(bytes, value) || !(value >= min && value <= max)) return false;
  to.store(value, kRelaxed);
  return true;
}

static_assert(std::endian::native == std::endian::little, "the saved form is little-endian");

}  // namespace

int Calibration::BucketBase(int tier, int order) {
  return (tier * kMaxContextOrder + order - 1) * kKinds;
}

int Calibration::LevelSet(uint16_t offered) {
  static_assert(kLevelSets == 1 << 10);
  // The high bits of a multiplicative hash.
  return kTierSets + static_cast<int>((offered * 0x9E3779B1u) >> 22);
}

Calibration::Calibration() {
  for (int tier = 0; tier < kEvidenceTierCount; ++tier) {
    // A corpus was written by others.
    const float trust = kEvidenceTiers[tier] == TierKind::kCorpus ? 0.5f : 0.7f;
    for (int order = 1; order <= kMaxContextOrder; ++order) {
      for (int kind = 0; kind < kKinds; ++kind) {
        float probability = 0.02f;
        if (kind >= kTotals) {
          const int share = (kind - kTotals) / (2 * kTotals);
          probability = (static_cast<float>(share) + 0.3f) / (kShares - 0.5f) * trust;
        }
        Bucket& bucket = buckets_[BucketBase(tier, order) + kind];
        bucket.probability.store(probability, kRelaxed);
        bucket.count.store(kPriorCount, kRelaxed);
        log_odds_[BucketBase(tier, order) + kind].store(LogOdds(probability), kRelaxed);
      }
    }
  }
  for (int set = 0; set < kSets; ++set) {
    // A token's weights are the sum of two sets'.
    const float prior = set < kTierSets ? kPriorWeight : 0.0f;
    for (int i = 0; i < kWeights; ++i) {
      sets_[set].weight[i].store(i < kInputs ? prior : 0.0f, kRelaxed);
    }
    uses_[set].store(0.0f, kRelaxed);
  }
}

float Calibration::Mix(const Workspace::Features& token,
                       std::vector<Workspace::Weights>& weights) const {
  auto known = std::find_if(weights.begin(), weights.end(), [&](const Workspace::Weights& some) {
    return some.offered_by_level == token.offered_by_level;
  });
  if (known == weights.end()) {
    known = weights.emplace(known);
    known->offered_by_level = token.offered_by_level;
    const auto& by_tier = sets_[TierSet(token.offered_by_tier)].weight;
    const auto& by_level = sets_[LevelSet(token.offered_by_level)].weight;
    for (size_t i = 0; i < kWeights; ++i) {
      known->weight[i] = by_tier[i].load(kRelaxed) + by_level[i].load(kRelaxed);
    }
  }
  // Four sums, which the compiler may not make of one. An input that says nothing is 0.
  constexpr size_t kLanes = 4;
  static_assert(kWeights % kLanes == 0);
  std::array<float, kLanes> sums{};
  for (size_t i = 0; i < kWeights; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      sums[lane] += token.log_odds[i + lane] * known->weight[i + lane];
    }
  }
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

void Calibration::Rank(const TierEvidence& evidence, int64_t vocab_size,
                       Workspace& workspace) const {
  std::vector<TokenId>& tokens = workspace.tokens_;
  auto& features = workspace.features_;
  auto& candidates = workspace.candidates_;
  tokens.clear();
  features.clear();
  candidates.clear();
  workspace.weights_.clear();
  workspace.active_count_ = 0;
  // What an input is for tokens that its context does not offer.
  std::array<int16_t, kInputs> absent;
  absent.fill(-1);
  std::array<float, kWeights> absent_log_odds{};
  absent_log_odds.back() = kConstantInput;

  for (int tier = 0; tier < kEvidenceTierCount; ++tier) {
    for (int level = 0; level < evidence[tier].levels; ++level) {
      const ContextCounts& counts = evidence[tier].level[level];
      const int input = tier * kMaxLevels + level;
      const int base = BucketBase(tier, std::clamp<int>(counts.order, 1, kMaxContextOrder));
      const int total = TotalClass(counts.total, kTotals);
      workspace.active_[workspace.active_count_++] = input;
      absent[input] = static_cast<int16_t>(base + total);
      absent_log_odds[input] = log_odds_[absent[input]].load(kRelaxed);
    }
  }
  for (int tier = 0; tier < kEvidenceTierCount; ++tier) {
    const bool knows_recency = kEvidenceTiers[tier] != TierKind::kCorpus;
    for (int level = 0; level < evidence[tier].levels; ++level) {
      const ContextCounts& counts = evidence[tier].level[level];
      const int input = tier * kMaxLevels + level;
      const int base = absent[input] - TotalClass(counts.total, kTotals) + kTotals;
      const int total = TotalClass(counts.total, kTotals);
      for (int i = 0; i < counts.size; ++i) {
        const Continuation& next = counts.continuations[i];
        if (next.token < 0 || next.token >= vocab_size) continue;
        const auto found = std::find(tokens.begin(), tokens.end(), next.token);
        const size_t at = static_cast<size_t>(found - tokens.begin());
        if (found == tokens.end()) {
          tokens.push_back(next.token);
          candidates.push_back({next.token, kEvidenceTiers[tier], 0.0f});
          features.push_back({absent, absent_log_odds, 0, 0, 0.0f});
        }
        const int share = next.count >= counts.total
                              ? kShares - 1
                              : static_cast<int>(uint64_t{kShares - 1} * next.count / counts.total);
        const int last = knows_recency && i == 0 ? 1 : 0;
        const int bucket = base + (share * kTotals + total) * 2 + last;
        Workspace::Features& token = features[at];
        token.buckets[input] = static_cast<int16_t>(bucket);
        token.log_odds[input] = log_odds_[bucket].load(kRelaxed);
        token.offered_by_tier |= static_cast<uint16_t>(1u << tier);
        token.offered_by_level |= static_cast<uint16_t>(1u << input);
      }
    }
  }

  float sum = 0.0f;
  for (size_t at = 0; at < tokens.size(); ++at) {
    Workspace::Features& token = features[at];
    token.own_probability = Probability(Mix(token, workspace.weights_));
    candidates[at].probability = token.own_probability;
    sum += token.own_probability;
  }
  if (sum > 1.0f) {
    for (Candidate& candidate : candidates) candidate.probability /= sum;
  }
}

void Calibration::Learn(const TierEvidence& evidence, int64_t vocab_size, TokenId actual,
                        Workspace& workspace) {
  // Another Learn's observation is as good as this one.
  if (!learn_mutex_.TryLock()) return;
  Rank(evidence, vocab_size, workspace);
  const std::span<const int> active =
      std::span(workspace.active_).first(static_cast<size_t>(workspace.active_count_));
  for (size_t at = 0; at < workspace.tokens_.size(); ++at) {
    const Workspace::Features& token = workspace.features_[at];
    const float outcome = workspace.tokens_[at] == actual ? 1.0f : 0.0f;
    const float error = outcome - token.own_probability;
    for (const int set : {TierSet(token.offered_by_tier), LevelSet(token.offered_by_level)}) {
      const float uses = uses_[set].load(kRelaxed);
      uses_[set].store(std::min(uses + 1.0f, 1e6f), kRelaxed);
      const float step = error * std::max(kLastRate, kFirstRate / (1.0f + uses / kRateUses));
      const auto adjust = [&](int i, float input) {
        std::atomic<float>& weight = sets_[set].weight[i];
        weight.store(std::clamp(weight.load(kRelaxed) + step * input, -kMaxWeight, kMaxWeight),
                     kRelaxed);
      };
      for (const int i : active) adjust(i, token.log_odds[i]);
      adjust(kInputs, kConstantInput);
    }
    for (const int i : active) {
      Bucket& bucket = buckets_[token.buckets[i]];
      const float count = std::min(bucket.count.load(kRelaxed) + 1.0f, kMaxCount);
      float probability = bucket.probability.load(kRelaxed);
      probability += (outcome - probability) / (count + 0.5f);
      bucket.count.store(count, kRelaxed);
      bucket.probability.store(probability, kRelaxed);
      log_odds_[token.buckets[i]].store(LogOdds(probability), kRelaxed);
    }
  }
  observations_.store(observations_.load(kRelaxed) + 1, kRelaxed);
  learn_mutex_.Unlock();
}

std::string Calibration::Encode() const {
  std::string bytes(kMagic, sizeof(kMagic));
  Put(bytes, kVersion);
  Put(bytes, static_cast<uint32_t>(kBuckets));
  Put(bytes, static_cast<uint32_t>(kSets));
  Put(bytes, static_cast<uint32_t>(kWeights));
  Put(bytes, observations());
  for (const Bucket& bucket : buckets_) {
    Put(bytes, bucket.probability.load(kRelaxed));
    Put(bytes, bucket.count.load(kRelaxed));
  }
  for (int set = 0; set < kSets; ++set) {
    Put(bytes, uses_[set].load(kRelaxed));
    for (const auto& weight : sets_[set].weight) Put(bytes, weight.load(kRelaxed));
  }
  return bytes;
}

absl::StatusOr<std::unique_ptr<Calibration>> Calibration::Decode(absl::string_view bytes) {
  char magic[sizeof(kMagic)];
  uint32_t version = 0, buckets = 0, sets = 0, weights = 0;
  uint64_t observations = 0;
  if (!Take(bytes, magic) || std::memcmp(magic, kMagic, sizeof(kMagic)) != 0 ||
      !Take(bytes, version) || version != kVersion || !Take(bytes, buckets) ||
      buckets != kBuckets || !Take(bytes, sets) || sets != kSets || !Take(bytes, weights) ||
      weights != kWeights || !Take(bytes, observations)) {
    return absl::DataLossError("the calibration's header is not that of this version");
  }
  auto calibration = std::make_unique<Calibration>();
  bool valid = true;
  for (int i = 0; i < kBuckets; ++i) {
    Bucket& bucket = calibration->buckets_[i];
    valid = valid && TakeInRange(bytes, 0.0f, 1.0f, bucket.probability) &&
            TakeInRange(bytes, 0.0f, kMaxCount, bucket.count);
    calibration->log_odds_[i].store(LogOdds(bucket.probability.load(kRelaxed)), kRelaxed);
  }
  for (int set = 0; set < kSets; ++set) {
    valid = valid && TakeInRange(bytes, 0.0f, 1e6f, calibration->uses_[set]);
    for (auto& weight : calibration->sets_[set].weight) {
      valid = valid && TakeInRange(bytes, -kMaxWeight, kMaxWeight, weight);
    }
  }
  if (!valid || !bytes.empty()) {
    return absl::DataLossError("the calibration is cut short or holds a number out of range");
  }
  calibration->observations_.store(observations, kRelaxed);
  return calibration;
}

}  // namespace strata::draft
