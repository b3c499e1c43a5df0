#ifndef STRATA_SERVICES_CLIENT_LOAD_RECORD_H_
#define STRATA_SERVICES_CLIENT_LOAD_RECORD_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "strata/v1/generate.pb.h"

namespace strata::client::load {

// Times are seconds since the run began.

// A message with tokens.
struct Chunk {
  double at = 0;
  uint32_t tokens = 0;
};

// What came of a request.
struct Outcome {
  absl::Status status;
  std::vector<Chunk> chunks;
  // Of the last message; empty if the request failed.
  v1::GenerationStatistics statistics;
};

// A request of a run.
struct Record {
  size_t index = 0;
  // When it was to be sent, and when it was: an open loop's arrival does not wait for the service.
  double due = 0;
  double sent = 0;
  double done = 0;
  Outcome outcome;
};

// All requests at one level in one mode.
struct LoadRun {
  // In no particular order.
  std::vector<Record> records;
  // Until the last request was done.
  double seconds = 0;
  // As long as the load was at its level: until a closed loop found no further request to send, or
  // until an open loop's last arrival. After that fewer requests share the service.
  double loaded_seconds = 0;
};

}  // namespace strata::client::load

#endif  // STRATA_SERVICES_CLIENT_LOAD_RECORD_H_
