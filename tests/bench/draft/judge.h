#ifndef STRATA_TESTS_BENCH_DRAFT_JUDGE_H_
#define STRATA_TESTS_BENCH_DRAFT_JUDGE_H_

#include <span>

#include "absl/status/status.h"
#include "tests/bench/draft/soak.h"
#include "tests/bench/replay/statistics.h"

// What the tools take for a failure.
namespace strata::draft_bench {

// INTERNAL if the service's memory grew in the second half of the run: if the least resident memory
// of the last tenth of the samples (at least 10) is above that of the tenth before the middle by
// more than 2 %, 4 MiB and what model tiers, which have a limit of their own, grew by. The least of
// several samples, because memory rises for a while whenever tiers are saved.
absl::Status JudgeMemory(std::span<const SoakSample> samples);

// INTERNAL if the 99th percentile of message times during swaps is more than `factor` times that
// before.
absl::Status JudgeSwap(const replay::Samples& before, const replay::Samples& during, double factor);

}  // namespace strata::draft_bench

#endif  // STRATA_TESTS_BENCH_DRAFT_JUDGE_H_
