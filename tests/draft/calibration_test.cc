#include "services/draft/hierarchy/calibration.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <random>
#include <thread>

#include "absl/status/status.h"

namespace strata::draft {
namespace {

constexpr int kContext = 1;
constexpr int kCorpus = 4;
constexpr int64_t kVocabulary = 1000;

void AddLevel(Evidence& evidence, int order, uint32_t total, std::vector<Continuation> list) {
  ContextCounts& counts = evidence.level[evidence.levels++];
  counts.order = static_cast<uint8_t>(order);
  counts.total = total;
  counts.size = static_cast<uint8_t>(list.size());
  std::copy(list.begin(), list.end(), counts.continuations.begin());
}

std::map<TokenId, Candidate> Rank(const Calibration& calibration, const TierEvidence& evidence,
                                  int64_t vocab_size = kVocabulary) {
  Calibration::Workspace workspace;
  calibration.Rank(evidence, vocab_size, workspace);
  std::map<TokenId, Candidate> ranked;
  for (const Candidate& candidate : workspace.candidates()) {
    EXPECT_TRUE(ranked.emplace(candidate.token, candidate).second) << "a token came twice";
  }
  return ranked;
}

TEST(CalibrationTest, TheTiersAreInFallingLocality) {
  EXPECT_EQ(kEvidenceTiers[kContext], TierKind::kContext);
  EXPECT_EQ(kEvidenceTiers[kCorpus], TierKind::kCorpus);
}

TEST(CalibrationTest, BeforeItLearnedALargerShareIsMoreLikely) {
  const Calibration calibration;
  TierEvidence evidence{};
  AddLevel(evidence[kContext], 2, 16, {{5, 12}, {6, 4}});
  AddLevel(evidence[kCorpus], 3, 8, {{5, 8}});
  const auto ranked = Rank(calibration, evidence);
  ASSERT_EQ(ranked.size(), 2u);
  EXPECT_GT(ranked.at(5).probability, 2 * ranked.at(6).probability);
  EXPECT_EQ(ranked.at(5).tier, TierKind::kContext);
}

TEST(CalibrationTest, TokensOutsideTheVocabularyAreNoCandidates) {
  TierEvidence evidence{};
  AddLevel(evidence[kCorpus], 1, 3, {{-1, 1}, {999, 1}, {1000, 1}});
  const auto ranked = Rank(Calibration(), evidence);
  ASSERT_EQ(ranked.size(), 1u);
  EXPECT_EQ(ranked.begin()->first, 999);
}

TEST(CalibrationTest, NoEvidenceNoCandidates) {
  EXPECT_TRUE(Rank(Calibration(), TierEvidence{}).empty());
}

TEST(CalibrationTest, ProbabilitiesOfOneContextAreAtMostOneInSum) {
  std::mt19937 random(3);
  Calibration calibration;
  Calibration::Workspace workspace;
  for (int trial = 0; trial < 3000; ++trial) {
    TierEvidence evidence{};
    for (Evidence& tier : evidence) {
      for (int order = 8; order > 0 && tier.levels < kMaxLevels; order -= 1 + random() % 3) {
        std::vector<Continuation> list;
        uint32_t total = random() % 3;
        for (size_t i = random() % 9; i > 0; --i) {
          const TokenId token = static_cast<TokenId>(random() % 12);
          if (std::any_of(list.begin(), list.end(),
                          [&](const Continuation& c) { return c.token == token; })) {
            continue;
          }
          list.push_back({token, 1 + static_cast<uint32_t>(random() % 100)});
          total += list.back().count;
        }
        AddLevel(tier, order, total, list);
      }
    }
    float sum = 0;
    for (const auto& [token, candidate] : Rank(calibration, evidence)) {
      EXPECT_GT(candidate.probability, 0.0f);
      EXPECT_TRUE(std::isfinite(candidate.probability));
      sum += candidate.probability;
    }
    EXPECT_LE(sum, 1.0001f);
    calibration.Learn(evidence, kVocabulary, static_cast<TokenId>(random() % 12), workspace);
  }
}

// Two tiers each offer a token with the same share; one is right 8 times of 10, the other once.
TEST(CalibrationTest, LearnsHowFarEachTierCanBeTrusted) {
  Calibration calibration;
  Calibration::Workspace workspace;
  TierEvidence evidence{};
  AddLevel(evidence[kContext], 3, 4, {{5, 3}});
  AddLevel(evidence[kCorpus], 3, 4, {{6, 3}});
  std::mt19937 random(1);
  for (int i = 0; i < 20000; ++i) {
    const uint32_t draw = random() % 10;
    const TokenId actual = draw < 8 ? 5 : draw == 8 ? 6 : 7;
    calibration.Learn(evidence, kVocabulary, actual, workspace);
  }
  EXPECT_EQ(calibration.observations(), 20000u);
  const auto ranked = Rank(calibration, evidence);
  EXPECT_NEAR(ranked.at(5).probability, 0.8f, 0.05f);
  EXPECT_NEAR(ranked.at(6).probability, 0.1f, 0.05f);
}

// That a tier matched and offers something else counts against a token.
TEST(CalibrationTest, LearnsFromWhatATierDoesNotOffer) {
  Calibration calibration;
  Calibration::Workspace workspace;
  TierEvidence agree{}, contradict{};
  AddLevel(agree[kCorpus], 2, 100, {{6, 50}});
  AddLevel(contradict[kCorpus], 2, 100, {{6, 50}});
  AddLevel(contradict[kContext], 6, 3, {{5, 3}});
  for (int i = 0; i < 4000; ++i) {
    calibration.Learn(agree, kVocabulary, i % 2 == 0 ? 6 : 8, workspace);
    calibration.Learn(contradict, kVocabulary, 5, workspace);
  }
  EXPECT_NEAR(Rank(calibration, agree).at(6).probability, 0.5f, 0.1f);
  EXPECT_LT(Rank(calibration, contradict).at(6).probability, 0.05f);
}

TEST(CalibrationTest, TheSavedFormKeepsEverything) {
  Calibration calibration;
  Calibration::Workspace workspace;
  TierEvidence evidence{};
  AddLevel(evidence[kContext], 3, 9, {{5, 3}, {6, 2}});
  AddLevel(evidence[kCorpus], 1, 500, {{6, 40}, {7, 3}});
  for (int i = 0; i < 500; ++i) calibration.Learn(evidence, kVocabulary, 5 + i % 3, workspace);
  const auto decoded = Calibration::Decode(calibration.Encode());
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ((*decoded)->observations(), 500u);
  const auto before = Rank(calibration, evidence), after = Rank(**decoded, evidence);
  ASSERT_EQ(before.size(), after.size());
  for (const auto& [token, candidate] : before) {
    EXPECT_EQ(after.at(token).probability, candidate.probability);
  }
  EXPECT_EQ((*decoded)->Encode(), calibration.Encode());
}

TEST(CalibrationTest, DamagedBytesAreDataLoss) {
  const std::string whole = Calibration().Encode();
  for (const size_t size : {size_t{0}, size_t{7}, size_t{31}, whole.size() / 2, whole.size() - 1}) {
    EXPECT_TRUE(absl::IsDataLoss(Calibration::Decode(whole.substr(0, size)).status())) << size;
  }
  EXPECT_TRUE(absl::IsDataLoss(Calibration::Decode(whole + "x").status()));
  // Each field of the header.
  for (const size_t at : {size_t{0}, size_t{8}, size_t{12}, size_t{16}, size_t{20}}) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    EXPECT_TRUE(absl::IsDataLoss(Calibration::Decode(damaged).status())) << at;
  }
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::infinity(), -1.0f, 1e30f}) {
    std::string damaged = whole;
    std::memcpy(damaged.data() + 32, &bad, sizeof(bad));
    EXPECT_TRUE(absl::IsDataLoss(Calibration::Decode(damaged).status())) << bad;
  }
}

// For the tsan preset; elsewhere it shows that what readers see is in range.
TEST(CalibrationTest, RankBesideLearn) {
  Calibration calibration;
  TierEvidence evidence{};
  AddLevel(evidence[kContext], 3, 4, {{5, 3}});
  AddLevel(evidence[kCorpus], 3, 4, {{6, 3}});
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      Calibration::Workspace workspace;
      for (int i = 0; i < 5000; ++i) {
        calibration.Learn(evidence, kVocabulary, 5 + (i + t) % 2, workspace);
      }
    });
  }
  for (int i = 0; i < 5000; ++i) {
    for (const auto& [token, candidate] : Rank(calibration, evidence)) {
      ASSERT_GT(candidate.probability, 0.0f);
      ASSERT_LE(candidate.probability, 1.0f);
    }
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(calibration.observations(), 0u);
  EXPECT_LE(calibration.observations(), 10000u);
}

}  // namespace
}  // namespace strata::draft
