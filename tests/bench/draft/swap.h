#ifndef STRATA_TESTS_BENCH_DRAFT_SWAP_H_
#define STRATA_TESTS_BENCH_DRAFT_SWAP_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tests/bench/draft/draft_client.h"
#include "tests/bench/draft/service_process.h"
#include "tests/bench/draft/traffic.h"
#include "tests/bench/replay/rows.h"
#include "tests/bench/replay/statistics.h"

namespace strata::draft_bench {

struct AskOptions {
  // Sequences live at once; a message is for all of them.
  size_t batch = 4;
  uint32_t budget = 32;
  absl::Duration deadline = absl::Milliseconds(20);
  // For the way there and back, for indexing prompts, and for the batch of corpus reads that was
  // under way at the deadline.
  absl::Duration tolerance = absl::Milliseconds(50);
  TextOptions text;
  uint64_t seed = 1;
};

// What a number of messages came to.
struct Asked {
  replay::Samples us;
  // Messages that took longer than the deadline.
  uint64_t late = 0;
  // Those that took longer than deadline and tolerance.
  uint64_t overdue = 0;
  // Answers: all that asked for a tree; another status than OK; trees without a node; trees with a
  // node of the corpus.
  uint64_t answers = 0;
  uint64_t failed = 0;
  uint64_t empty = 0;
  uint64_t with_corpus = 0;

  void Add(const Asked& other);
};

// A verifier that keeps a batch of sequences going on one stream. Thread-compatible.
class Asker {
 public:
  static absl::StatusOr<std::unique_ptr<Asker>> Open(const AskOptions& options,
                                                     std::span<const replay::Row> rows,
                                                     const std::string& address);
  // One message, timed from `begin`. An error if the stream broke.
  absl::Status Ask(absl::Time begin, Asked& asked);

 private:
  Asker(const AskOptions& options, std::span<const replay::Row> rows);

  const AskOptions options_;
  const std::span<const replay::Row> rows_;
  std::mt19937_64 random_;
  std::unique_ptr<v1::DraftService::Stub> stub_;
  std::unique_ptr<DraftStream> stream_;
  std::vector<LiveSequence> live_;
  uint64_t next_id_ = 1;
};

struct SwapOptions {
  AskOptions ask;
  // Messages a second.
  double rate = 200;
  // Folder whose CURRENT names the snapshot that is live, and the name of another one in it.
  std::string corpus;
  std::string to;
  // There and back count as two.
  int swaps = 6;
  // Asked for as long before the first swap, when a warm-up of the same length is over, and after
  // each.
  absl::Duration calm = absl::Seconds(5);
  // How long a swap may take.
  absl::Duration timeout = absl::Seconds(60);
};

struct SwapResult {
  Asked before, during, after;
  // From the writing of CURRENT until the service reports the new snapshot.
  replay::Samples swap_ms;
};

// Asks at a steady rate while CURRENT goes from one snapshot to the other; it is as before in the
// end.
absl::StatusOr<SwapResult> Swap(const SwapOptions& options, std::span<const replay::Row> rows,
                                const ServiceProcess& service);

struct ColdOptions {
  AskOptions ask;
  std::string corpus;
  std::string service;
  std::vector<std::string> service_flags;
  // Services started one after another, and messages timed of each.
  int rounds = 5;
  size_t first = 200;
};

struct ColdResult {
  // The first messages of each service, and as many after them.
  Asked first, next;
  // From the start until it serves.
  replay::Samples start_ms;
  // The snapshot's files, and what of them was in the page cache when the last messages began.
  uint64_t snapshot_bytes = 0;
  uint64_t resident_bytes = 0;
};

// Starts services whose snapshot is in no cache of this machine's kernel.
absl::StatusOr<ColdResult> Cold(const ColdOptions& options, std::span<const replay::Row> rows);

// The snapshot that `root`'s CURRENT names.
absl::StatusOr<std::string> ReadCurrent(const std::string& root);

}  // namespace strata::draft_bench

#endif  // STRATA_TESTS_BENCH_DRAFT_SWAP_H_
