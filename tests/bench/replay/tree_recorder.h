#ifndef STRATA_TESTS_BENCH_REPLAY_TREE_RECORDER_H_
#define STRATA_TESTS_BENCH_REPLAY_TREE_RECORDER_H_

#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "common/base/draft_tree.h"
#include "tests/bench/replay/rows.h"

namespace strata::replay {

// Keeps the shape of every step's tree and what was accepted of it, so that an engine can be timed
// with them where there is no drafter (tests/bench/engine/tree_bench.cc).
class TreeRecorder {
 public:
  // `row` must stay where it is.
  void Add(const Row& row, const DraftTree& tree, std::span<const int32_t> accepted);
  // One JSON object: {"rows": [{"prompt_tokens": N, "steps": [[parents, accepted nodes], …]}, …]},
  // rows in the order of their first step. UNAVAILABLE names the file.
  absl::Status Write(const std::string& path) const;

 private:
  struct Step {
    std::vector<int32_t> parents;
    std::vector<int32_t> accepted;
  };
  struct Recorded {
    size_t prompt_tokens = 0;
    std::vector<Step> steps;
  };
  std::unordered_map<const Row*, size_t> index_;
  std::vector<Recorded> rows_;
};

}  // namespace strata::replay

#endif  // STRATA_TESTS_BENCH_REPLAY_TREE_RECORDER_H_
