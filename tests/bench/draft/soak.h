#ifndef STRATA_TESTS_BENCH_DRAFT_SOAK_H_
#define STRATA_TESTS_BENCH_DRAFT_SOAK_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tests/bench/draft/service_process.h"
#include "tests/bench/draft/traffic.h"
#include "tests/bench/replay/rows.h"

namespace strata::draft_bench {

struct SoakOptions {
  // Sequences in all, begun evenly over `duration` (or later, if the machine is too slow).
  uint64_t sequences = 100'000;
  absl::Duration duration = absl::Minutes(10);
  // Verifiers, and sequences that each has live at once.
  int streams = 4;
  size_t batch = 16;
  // Sequences begun on a stream before it ends, on average.
  uint64_t stream_sequences = 1000;
  // Shares of the sequences: given up without a close; rewound once.
  double abandoned = 0.12;
  double rewound = 0.03;
  // Shares of the streams that end: cut, and of these the ones whose verifier comes back with its
  // sequences.
  double cut = 0.7;
  double returning = 0.5;
  // Tenants that come and go during the run, one after another; half of the sequences are of one
  // tenant that stays.
  uint64_t tenants = 48;
  uint32_t budget = 16;
  TextOptions text;
  uint64_t seed = 1;
  std::string tokenizer_fingerprint;
  // Of the service: what fills it up, so that idle sequences give way; and how long they are idle.
  size_t max_sequences = 256;
  absl::Duration idle = absl::Seconds(1);
};

struct SoakSample {
  double seconds = 0;
  uint64_t sequences = 0;
  uint64_t rss_bytes = 0;
  uint64_t live_sequences = 0;
  uint64_t model_tier_bytes = 0;
};

struct SoakCounts {
  uint64_t closed = 0;
  uint64_t abandoned = 0;
  // Lost with their verifier.
  uint64_t lost = 0;
  uint64_t rewound = 0;
  uint64_t streams = 0;
  uint64_t cut_streams = 0;
  uint64_t returned_streams = 0;
  uint64_t messages = 0;
  uint64_t steps = 0;
  uint64_t drafted = 0;
  uint64_t unknown = 0;
  uint64_t exhausted = 0;
};

struct SoakResult {
  // At each hundredth of the sequences.
  std::vector<SoakSample> samples;
  SoakCounts counts;
  // When all verifiers have ended what they did not abandon; after idle sequences gave way; after
  // all streams ended.
  uint64_t live_at_end = 0;
  uint64_t live_after_eviction = 0;
  uint64_t live_after_streams = 0;
  uint64_t rss_after_streams = 0;
  double seconds = 0;
};

// Plays the traffic against the service. An error if the service fails or breaks the contract.
absl::StatusOr<SoakResult> Soak(const SoakOptions& options, std::span<const replay::Row> rows,
                                const ServiceProcess& service);

}  // namespace strata::draft_bench

#endif  // STRATA_TESTS_BENCH_DRAFT_SOAK_H_
