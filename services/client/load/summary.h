#ifndef STRATA_SERVICES_CLIENT_LOAD_SUMMARY_H_
#define STRATA_SERVICES_CLIENT_LOAD_SUMMARY_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "services/client/load/distribution.h"
#include "services/client/load/record.h"

namespace strata::client::load {

// The figures of some runs together. Failed requests are counted by their status; all else is of
// those that were answered to their end.
struct Summary {
  size_t requests = 0;
  size_t failed = 0;
  // By the status' name.
  std::map<std::string, size_t> failures;
  // What the first failed one was told.
  std::string first_failure;

  double seconds = 0;
  double loaded_seconds = 0;
  uint64_t tokens = 0;
  // Of these, those that came within the loaded seconds.
  uint64_t loaded_tokens = 0;

  // Seconds, one value a request. Both count from when the request was due.
  Distribution first_token;
  Distribution latency;
  // From the first chunk to the last, over one token less than the answer's; of answers in at least
  // two chunks.
  Distribution per_token;
  // How much later than due this client sent; 0 in a closed loop.
  Distribution send_lag;

  // Sums of the answers' statistics.
  uint64_t steps = 0;
  uint64_t drafted = 0;
  uint64_t accepted = 0;
  uint64_t draft_misses = 0;
  double prefill_seconds = 0;
  double draft_seconds = 0;
  double verify_seconds = 0;
  double total_seconds = 0;

  // 0 if there is no time.
  double TokensPerSecond() const;
  double LoadedTokensPerSecond() const;
};
Summary Summarize(std::span<const LoadRun> runs);

// How many times one mode's figures are another's; none where the other's is 0 or was not measured.
struct Ratios {
  std::optional<double> tokens_per_second;
  std::optional<double> loaded_tokens_per_second;
  std::optional<double> per_token_p95;
};
Ratios Compare(const Summary& mode, const Summary& base);

}  // namespace strata::client::load

#endif  // STRATA_SERVICES_CLIENT_LOAD_SUMMARY_H_
