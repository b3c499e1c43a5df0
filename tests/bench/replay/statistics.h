#ifndef STRATA_TESTS_BENCH_REPLAY_STATISTICS_H_
#define STRATA_TESTS_BENCH_REPLAY_STATISTICS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "common/base/draft_tree.h"

namespace strata::replay {

// What a number of verification steps came to.
struct Tally {
  uint64_t rows = 0;
  uint64_t steps = 0;
  // Tokens that the steps produced; the one from prefill is not among them.
  uint64_t emitted = 0;
  // Nodes of the trees.
  uint64_t drafted = 0;

  // 0 if there were no steps.
  double TokensPerStep() const;
  double DraftedPerStep() const;
};

// Times in microseconds.
class Samples {
 public:
  void Add(double value) { values_.push_back(value); }
  void Add(const Samples& other) {
    values_.insert(values_.end(), other.values_.begin(), other.values_.end());
  }
  size_t count() const { return values_.size(); }
  // The smallest value that at least `percent` % of the values do not exceed (nearest rank), 0
  // without values. 0 <= percent <= 100.
  double Percentile(double percent) const;
  double Mean() const;

 private:
  std::vector<double> values_;
};

// Everything that a replay measures. Thread-compatible.
struct Statistics {
  Tally total;
  // By the rows' categories, and kMtBench for its eight together.
  std::map<std::string, Tally> categories;
  // Rows too short to be played.
  uint64_t skipped_rows = 0;
  // By TierKind.
  std::array<uint64_t, kTierKinds> drafted_by_tier{};
  std::array<uint64_t, kTierKinds> accepted_by_tier{};
  // [k]: steps whose path was accepted to depth k + 1 at least.
  std::vector<uint64_t> accepted_by_position;
  // One value a message that asked for drafts: all of them, and those in which no sequence began
  // or ended, so that no prompt had to be indexed.
  Samples draft_us;
  Samples steady_draft_us;
  // In this process: what the drafter learned from a message after its answer.
  Samples learn_us;
  // Remote only: the time that the service says it spent, and the rest of the round trip.
  Samples service_us;
  Samples rpc_us;

  void AddRow(const std::string& category);
  // `accepted` is a path in `tree`; `emitted` tokens came of it.
  void AddStep(const std::string& category, const DraftTree& tree,
               std::span<const int32_t> accepted, size_t emitted);
};

inline constexpr char kMtBench[] = "mtbench";
// Whether Spec-Bench (arXiv 2401.07851) took the category's questions from MT-Bench.
bool IsMtBench(const std::string& category);

}  // namespace strata::replay

#endif  // STRATA_TESTS_BENCH_REPLAY_STATISTICS_H_
