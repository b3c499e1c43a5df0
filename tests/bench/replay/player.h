#ifndef STRATA_TESTS_BENCH_REPLAY_PLAYER_H_
#define STRATA_TESTS_BENCH_REPLAY_PLAYER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "absl/status/status.h"
#include "common/base/draft_tree.h"
#include "services/draft/hierarchy/drafter.h"
#include "tests/bench/replay/draft_driver.h"
#include "tests/bench/replay/rows.h"
#include "tests/bench/replay/statistics.h"

namespace strata::replay {

// Rows with fewer output tokens are not played.
inline constexpr size_t kMinOutputTokens = 5;

struct PlayOptions {
  // Most nodes of a tree.
  uint32_t budget = 32;
  draft::Policy policy = draft::Policy::kDefault;
  // Sequences live at once, 1 to 1,024: one message a step is for all of them.
  size_t batch = 1;
  // Whether the rows' predicted text and rankings are sent.
  bool send_predicted = true;
  bool send_rankings = true;
  // Called after each step, if set; `tree` and `accepted` are borrowed.
  std::function<void(const Row& row, const DraftTree& tree, std::span<const int32_t> accepted)>
      on_step;
};

// Plays `rows` in order through `driver` as a verifier whose model says exactly what was recorded:
// a sequence begins as the prompt with the first output token (which comes from prefill); every
// step asks for a tree, accepts the path in it that agrees with the recorded output, and emits that
// and one token more, which the model itself gives (none behind the end of the output). The next
// message tells what was accepted. As a sequence ends its place goes to the next row, so the batch
// is full until the rows run out. Adds to `statistics`; on an error they tell of what came before.
absl::Status Play(std::span<const Row> rows, const PlayOptions& options, DraftDriver& driver,
                  Statistics& statistics);

}  // namespace strata::replay

#endif  // STRATA_TESTS_BENCH_REPLAY_PLAYER_H_
