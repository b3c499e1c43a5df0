#ifndef STRATA_SERVICES_DRAFT_HIERARCHY_CALIBRATION_H_
#define STRATA_SERVICES_DRAFT_HIERARCHY_CALIBRATION_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "common/base/draft_tree.h"
#include "services/draft/tiers/evidence.h"

namespace strata::draft {

// The tiers that give evidence, in falling locality.
inline constexpr std::array<TierKind, 5> kEvidenceTiers = {TierKind::kPredicted, TierKind::kContext,
                                                           TierKind::kRecycled, TierKind::kModel,
                                                           TierKind::kCorpus};
inline constexpr int kEvidenceTierCount = static_cast<int>(kEvidenceTiers.size());

// What all tiers know of one context, in the order of kEvidenceTiers; no levels where a tier is
// absent or nothing matched.
using TierEvidence = std::array<Evidence, kEvidenceTierCount>;

// A token that may come next.
struct Candidate {
  TokenId token = 0;
  // The most local tier that offers it.
  TierKind tier = TierKind::kUnspecified;
  // Estimated probability that it does; over all candidates of one context at most 1 in sum.
  float probability = 0;
};

// Estimates how likely a token is to come next from what the tiers know of the context, and learns
// online, from the tokens that verification accepted, how far each kind of evidence can be trusted.
//
// One piece of evidence is that one of the three longest matched contexts of one tier offers the
// token, or matched and does not. Its kind is (tier, order, log2 of the context's count, share of
// the count that is the token's, whether it came last there); each kind has a bucket that
// counts how often such a token was right. The buckets' log odds are mixed linearly into the log
// odds of the token (logistic mixing of context-mixing compressors; M. Mahoney, "Adaptive weighing
// of context models for lossless data compression", 2005), with weights that depend on which tiers,
// and which of their contexts, offer the token. Buckets and weights start from a prior.
//
// Thread-safe, and neither Rank nor Learn ever waits: reads are relaxed, so that a Rank beside a
// Learn may see some of its changes and not others, and a Learn beside another is left out.
class Calibration {
 public:
  Calibration();
  Calibration(const Calibration&) = delete;
  Calibration& operator=(const Calibration&) = delete;

  // Scratch of Rank and Learn, to be reused. Thread-compatible.
  class Workspace {
   public:
    // Result of the last Rank: in no particular order.
    std::span<const Candidate> candidates() const { return candidates_; }

   private:
    friend class Calibration;
    static constexpr int kInputs = kEvidenceTierCount * kMaxLevels;
    struct Features {
      // Bucket of each (tier, level); of no meaning where there is no such level.
      std::array<int16_t, kInputs> buckets;
      // The constant last.
      std::array<float, kInputs + 1> log_odds;
      // Which tiers, and which (tier, level), offer the token.
      uint16_t offered_by_tier;
      uint16_t offered_by_level;
      // Of the token on its own, before candidates are scaled to a sum of at most 1.
      float own_probability;
    };
    // Weights of tokens that the same (tier, level) offer.
    struct Weights {
      uint16_t offered_by_level;
      std::array<float, kInputs + 1> weight;
    };
    // Inputs whose context matched, which alone can say anything: the rest are 0 for all tokens.
    std::array<int, kInputs> active_;
    int active_count_ = 0;
    std::vector<TokenId> tokens_;
    std::vector<Features> features_;
    std::vector<Weights> weights_;
    std::vector<Candidate> candidates_;
  };

  // Puts every token in [0, vocab_size) that `evidence` offers into workspace.candidates().
  void Rank(const TierEvidence& evidence, int64_t vocab_size, Workspace& workspace) const;
  // Learns that `actual` came after the context of `evidence`. Overwrites the candidates.
  void Learn(const TierEvidence& evidence, int64_t vocab_size, TokenId actual,
             Workspace& workspace);

  // Positions learned from so far, those before Encode included.
  uint64_t observations() const { return observations_.load(std::memory_order_relaxed); }

  // The saved form, about 115 KB: magic, version, size of the tables, floats; little-endian. The
  // caller guards it with a checksum.
  std::string Encode() const;
  // DATA_LOSS if `bytes` is no Encode of this version with finite numbers in range.
  static absl::StatusOr<std::unique_ptr<Calibration>> Decode(absl::string_view bytes);

  static size_t bytes() { return sizeof(Calibration); }

 private:
  static constexpr int kInputs = Workspace::kInputs;
  // Kinds of evidence of one (tier, order): the context's count alone (it does not offer the
  // token), then count x share x came last.
  static constexpr int kTotals = 8;
  static constexpr int kShares = 8;
  static constexpr int kKinds = kTotals + kTotals * kShares * 2;
  static constexpr int kBuckets = kEvidenceTierCount * kMaxContextOrder * kKinds;
  // Sets of weights: one for each combination of tiers that offer, and as many as fit for those
  // of (tier, level), which share a set by chance.
  static constexpr int kTierSets = 1 << kEvidenceTierCount;
  static constexpr int kLevelSets = 1024;
  static constexpr int kSets = kTierSets + kLevelSets;
  // The inputs' weights, then that of a constant.
  static constexpr int kWeights = kInputs + 1;

  struct Bucket {
    std::atomic<float> probability;
    std::atomic<float> count;
  };
  struct alignas(64) WeightSet {
    std::array<std::atomic<float>, kWeights> weight;
  };

  // Log odds of a token's own probability.
  float Mix(const Workspace::Features& token, std::vector<Workspace::Weights>& weights) const;
  static int BucketBase(int tier, int order);
  static int TierSet(uint16_t offered) { return offered; }
  static int LevelSet(uint16_t offered);

  std::array<Bucket, kBuckets> buckets_;
  // log(probability / (1 - probability)) of each, which is all that Rank needs.
  std::array<std::atomic<float>, kBuckets> log_odds_;
  std::array<WeightSet, kSets> sets_;
  // How often each set was used, which its learning rate falls with.
  std::array<std::atomic<float>, kSets> uses_;
  std::atomic<uint64_t> observations_ = 0;
  absl::Mutex learn_mutex_;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_HIERARCHY_CALIBRATION_H_
