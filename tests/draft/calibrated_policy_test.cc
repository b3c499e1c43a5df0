#include "services/draft/hierarchy/calibrated_policy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <queue>

#include "absl/status/status.h"
#include "tests/draft/reference_tier.h"
#include "tests/draft/test_util.h"

namespace strata::draft {
namespace {

constexpr int64_t kVocabulary = 12;

// Three tiers of random text, and a sequence.
struct World {
  explicit World(int seed) : random(seed) {
    sequence = RandomTokens(random, 40, 3);
    context.Teach(sequence);
    model.Teach(RandomTokens(random, 120, 4));
    corpus.Teach(RandomTokens(random, 300, static_cast<int>(kVocabulary)));
  }
  CalibratedJob Job(DraftTree& tree, uint32_t nodes, uint32_t depth = 0) const {
    CalibratedJob job;
    job.tiers = {nullptr, &context, nullptr, &model, &corpus};
    job.context = sequence;
    job.calibration = calibration.get();
    job.limits = {.node_budget = nodes, .max_depth = depth, .vocab_size = kVocabulary};
    job.tree = &tree;
    return job;
  }
  // As the policy gathers it: the corpus is not asked about unlikely places that others know, nor
  // about those that they know the whole context of.
  TierEvidence EvidenceAt(const ContextTail& tail, float path_probability) const {
    const MatchQuery query = {&tail, kMaxContextOrder};
    TierEvidence evidence{};
    context.Match({&query, 1}, kMaxLevels, {&evidence[1], 1});
    model.Match({&query, 1}, kMaxLevels, {&evidence[3], 1});
    const int longest = std::max(evidence[1].longest(), evidence[3].longest());
    if (longest == 0 || (longest < kMaxContextOrder && path_probability >= 0.03f)) {
      corpus.Match({&query, 1}, kMaxLevels, {&evidence[4], 1});
    }
    return evidence;
  }

  std::mt19937 random;
  Tokens sequence;
  ReferenceTier context{TierKind::kContext}, model{TierKind::kModel}, corpus{TierKind::kCorpus};
  std::shared_ptr<Calibration> calibration = std::make_shared<Calibration>();
};

DraftTree Grow(const World& world, uint32_t nodes, uint32_t depth = 0,
               CalibratedOptions options = {.min_path_probability = 0}) {
  DraftTree tree;
  CalibratedJob job = world.Job(tree, nodes, depth);
  GrowTrees(options, {&job, 1}, absl::InfiniteFuture());
  const absl::Status status = ValidateDraftTree(tree, kVocabulary, static_cast<int>(nodes));
  EXPECT_TRUE(status.ok()) << status;
  return tree;
}

// The greatest sum of path probabilities that `nodes` nodes can have, by expanding everything that
// the best tree could contain.
float BestSum(const World& world, uint32_t nodes) {
  struct Open {
    float probability;
    ContextTail tail;
    bool operator<(const Open& other) const { return probability < other.probability; }
  };
  std::priority_queue<Open> open;
  Calibration::Workspace workspace;
  float sum = 0;
  Open at = {1.0f, ContextTail(world.sequence)};
  for (uint32_t taken = 0; taken < nodes; ++taken) {
    world.calibration->Rank(world.EvidenceAt(at.tail, at.probability), kVocabulary, workspace);
    for (const Candidate& candidate : workspace.candidates()) {
      open.push({at.probability * candidate.probability, at.tail.Extended(candidate.token)});
    }
    if (open.empty()) break;
    at = open.top();
    open.pop();
    sum += at.probability;
  }
  return sum;
}

TEST(CalibratedPolicyTest, TheTreeIsAsGoodAsTheBestOfItsSize) {
  for (int seed = 0; seed < 40; ++seed) {
    const World world(seed);
    for (const uint32_t nodes : {1u, 4u, 16u, 64u}) {
      const DraftTree tree = Grow(world, nodes);
      ASSERT_EQ(tree.size(), static_cast<int>(nodes));
      double sum = 0;
      for (const double probability : PathProbabilities(tree)) sum += probability;
      // Expansions are put off a little (kExpansionDiscount), which may cost some.
      EXPECT_GE(sum, 0.95f * BestSum(world, nodes)) << "seed " << seed << ", nodes " << nodes;
    }
  }
}

TEST(CalibratedPolicyTest, ConfidencesAreTheEstimatesForTheNodesOwnContext) {
  const World world(7);
  const DraftTree tree = Grow(world, 48);
  const std::vector<double> path = PathProbabilities(tree);
  std::vector<ContextTail> tails;
  for (int i = 0; i < tree.size(); ++i) {
    const double parent_path = tree.parents[i] < 0 ? 1.0 : path[tree.parents[i]];
    const ContextTail parent =
        tree.parents[i] < 0 ? ContextTail(world.sequence) : tails[tree.parents[i]];
    Calibration::Workspace workspace;
    world.calibration->Rank(world.EvidenceAt(parent, parent_path), kVocabulary, workspace);
    const auto candidates = workspace.candidates();
    const auto it = std::find_if(candidates.begin(), candidates.end(),
                                 [&](const Candidate& c) { return c.token == tree.tokens[i]; });
    ASSERT_NE(it, candidates.end()) << "node " << i << " is nobody's candidate";
    EXPECT_FLOAT_EQ(tree.confidences[i], it->probability);
    EXPECT_EQ(tree.tiers[i], it->tier);
    tails.push_back(parent.Extended(tree.tokens[i]));
  }
}

TEST(CalibratedPolicyTest, ASmallerBudgetGivesTheBeginningOfTheTree) {
  const World world(3);
  const DraftTree large = Grow(world, 40);
  for (const uint32_t nodes : {1u, 7u, 39u}) {
    const DraftTree small = Grow(world, nodes);
    EXPECT_TRUE(std::equal(small.tokens.begin(), small.tokens.end(), large.tokens.begin()));
    EXPECT_TRUE(std::equal(small.parents.begin(), small.parents.end(), large.parents.begin()));
  }
}

// A sequence that repeats itself, so that some paths are likely.
World Repetitive(int seed) {
  World world(seed);
  const Tokens phrase = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0};
  world.sequence.clear();
  for (int i = 0; i < 4; ++i) {
    world.sequence.insert(world.sequence.end(), phrase.begin(), phrase.end());
  }
  world.context.Teach(world.sequence);
  return world;
}

TEST(CalibratedPolicyTest, HopelessNodesAreLeftOut) {
  const World world = Repetitive(5);
  const DraftTree tree = Grow(world, 200, 0, {.min_path_probability = 0.05});
  ASSERT_FALSE(tree.empty());
  EXPECT_LT(tree.size(), 200);
  for (const double probability : PathProbabilities(tree)) EXPECT_GE(probability, 0.049f);
}

TEST(CalibratedPolicyTest, DepthIsTheSmallerOfRequestAndOptions) {
  const World world = Repetitive(6);
  const auto depth = [](const DraftTree& tree) {
    std::vector<int> depths;
    for (const int32_t parent : tree.parents) {
      depths.push_back(parent < 0 ? 1 : depths[parent] + 1);
    }
    return *std::max_element(depths.begin(), depths.end());
  };
  EXPECT_EQ(depth(Grow(world, 60, 2)), 2);
  EXPECT_EQ(depth(Grow(world, 60, 9, {.min_path_probability = 0, .max_depth = 3})), 3);
  EXPECT_GT(depth(Grow(world, 250, 0)), 3);
}

TEST(CalibratedPolicyTest, ABatchGivesTheTreesOfItsJobsAlone) {
  std::vector<std::unique_ptr<World>> worlds;
  for (int seed = 0; seed < 9; ++seed) worlds.push_back(std::make_unique<World>(seed));
  std::vector<DraftTree> trees(worlds.size());
  std::vector<CalibratedJob> jobs;
  for (size_t i = 0; i < worlds.size(); ++i) {
    // Every budget from nothing to many, so that jobs end at different rounds; one shared corpus.
    jobs.push_back(worlds[i]->Job(trees[i], static_cast<uint32_t>(7 * i)));
    jobs.back().tiers[4] = &worlds[i / 4]->corpus;
  }
  GrowTrees({}, jobs, absl::InfiniteFuture());
  for (size_t i = 0; i < worlds.size(); ++i) {
    DraftTree alone;
    CalibratedJob job = jobs[i];
    job.tree = &alone;
    GrowTrees({}, {&job, 1}, absl::InfiniteFuture());
    EXPECT_EQ(trees[i].tokens, alone.tokens) << i;
    EXPECT_EQ(trees[i].parents, alone.parents) << i;
    EXPECT_EQ(trees[i].confidences, alone.confidences) << i;
  }
}

// Counts what it is asked.
class CountingCorpus final : public Tier {
 public:
  TierKind kind() const override { return TierKind::kCorpus; }
  void Match(std::span<const MatchQuery> queries, int /*levels*/,
             std::span<Evidence> out) const override {
    asked_ += static_cast<int>(queries.size());
    for (Evidence& evidence : out) evidence.levels = 0;
  }
  int asked() const { return asked_; }

 private:
  mutable int asked_ = 0;
};

TEST(CalibratedPolicyTest, TheCorpusIsAskedOnlyWhereItCanTellMore) {
  const Tokens sequence = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  const Calibration calibration;
  for (int known = 0; known <= kMaxContextOrder; ++known) {
    ReferenceTier context(TierKind::kContext);
    Tokens text(sequence.end() - known, sequence.end());
    text.push_back(0);
    context.Teach(text);
    const CountingCorpus corpus;
    DraftTree tree;
    CalibratedJob job;
    job.tiers = {nullptr, &context, nullptr, nullptr, &corpus};
    job.context = sequence;
    job.calibration = &calibration;
    job.limits = {.node_budget = 1, .vocab_size = kVocabulary};
    job.tree = &tree;
    GrowTrees({.min_path_probability = 0}, {&job, 1}, absl::InfiniteFuture());
    EXPECT_EQ(tree.size(), known > 0 ? 1 : 0);
    EXPECT_EQ(corpus.asked(), known < kMaxContextOrder ? 1 : 0) << known << " tokens known";
  }
}

TEST(CalibratedPolicyTest, NothingAfterTheDeadline) {
  const World world(2);
  DraftTree tree;
  tree.Add(1, -1, 0.5f, TierKind::kModel);
  CalibratedJob job = world.Job(tree, 10);
  GrowTrees({}, {&job, 1}, absl::InfinitePast());
  EXPECT_TRUE(tree.empty());
}

TEST(CalibratedPolicyTest, WithoutTiersOrContextTheTreeIsEmpty) {
  World world(2);
  DraftTree tree;
  CalibratedJob job = world.Job(tree, 10);
  job.tiers.fill(nullptr);
  GrowTrees({}, {&job, 1}, absl::InfiniteFuture());
  EXPECT_TRUE(tree.empty());
  job = world.Job(tree, 10);
  job.context = {};
  GrowTrees({}, {&job, 1}, absl::InfiniteFuture());
  EXPECT_TRUE(tree.empty());
}

// The corpus says the truth and the model tier lies: after some tokens the tree says what the
// corpus does.
TEST(CalibratedPolicyTest, LearnsWhichTierToFollow) {
  ReferenceTier corpus{TierKind::kCorpus}, model{TierKind::kModel};
  Tokens truth, lie;
  for (int i = 0; i < 600; ++i) truth.push_back(i * i % 11);
  for (int i = 0; i < 600; ++i) lie.push_back(i * (i + 5) % 11);
  corpus.Teach(truth);
  model.Teach(lie);
  Calibration calibration;
  const EvidenceSources tiers = {nullptr, nullptr, nullptr, &model, &corpus};
  for (size_t at = 8; at + 4 < truth.size(); at += 4) {
    Observation observation =
        ObserveAccepted({nullptr, nullptr, nullptr, &model, nullptr}, std::span(truth).first(at),
                        std::span(truth).subspan(at, 4));
    Observation* const observations[] = {&observation};
    ObserveCorpus(corpus, observations, absl::InfiniteFuture());
    LearnObservation(observation, 11, calibration);
  }
  EXPECT_EQ(calibration.observations(), 147u * 4);
  DraftTree tree;
  CalibratedJob job = {.tiers = tiers,
                       .context = std::span(truth).first(100),
                       .calibration = &calibration,
                       .limits = {.node_budget = 5, .vocab_size = 11},
                       .tree = &tree};
  GrowTrees({}, {&job, 1}, absl::InfiniteFuture());
  EXPECT_EQ(tree.tokens, Tokens(truth.begin() + 100, truth.begin() + 105));
}

TEST(CalibratedPolicyTest, ObservesTheCorpusOfSeveralSequencesTogether) {
  const World world(3);
  Observation whole =
      ObserveAccepted({nullptr, &world.context, nullptr, nullptr, &world.corpus},
                      std::span(world.sequence).first(5), std::span(world.sequence).subspan(5, 30));
  std::vector<Observation> parts(3);
  std::vector<Observation*> pointers;
  for (size_t i = 0; i < parts.size(); ++i) {
    parts[i] = ObserveAccepted({nullptr, &world.context, nullptr, nullptr, nullptr},
                               std::span(world.sequence).first(5 + 10 * i),
                               std::span(world.sequence).subspan(5 + 10 * i, 10));
    pointers.push_back(&parts[i]);
  }
  // What it was not asked for teaches nothing, least of all that it knew nothing.
  Observation late = parts[0];
  Observation* const late_pointer = &late;
  ObserveCorpus(world.corpus, {&late_pointer, 1}, absl::InfinitePast());
  EXPECT_TRUE(late.tokens.empty());
  ObserveCorpus(world.corpus, pointers, absl::InfiniteFuture());
  for (size_t i = 0; i < 30; ++i) {
    const Evidence& got = parts[i / 10].evidence[i % 10][4];
    const Evidence& want = whole.evidence[i][4];
    ASSERT_GT(want.levels, 0);
    ASSERT_EQ(got.levels, want.levels);
    for (int level = 0; level < want.levels; ++level) {
      EXPECT_EQ(got.level[level].order, want.level[level].order);
      EXPECT_EQ(got.level[level].total, want.level[level].total);
    }
  }
}

TEST(CalibratedPolicyTest, OptionsOutOfRangeAreNamed) {
  EXPECT_TRUE(ValidateCalibratedOptions({}).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(ValidateCalibratedOptions({.max_depth = 0})));
  EXPECT_TRUE(absl::IsInvalidArgument(ValidateCalibratedOptions({.max_depth = 257})));
  EXPECT_TRUE(absl::IsInvalidArgument(ValidateCalibratedOptions({.min_path_probability = 1.1})));
  EXPECT_TRUE(absl::IsInvalidArgument(ValidateCalibratedOptions({.min_path_probability = NAN})));
}

}  // namespace
}  // namespace strata::draft
