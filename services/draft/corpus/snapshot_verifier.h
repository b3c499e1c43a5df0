#ifndef STRATA_SERVICES_DRAFT_CORPUS_SNAPSHOT_VERIFIER_H_
#define STRATA_SERVICES_DRAFT_CORPUS_SNAPSHOT_VERIFIER_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "services/draft/corpus/manifest.h"

namespace strata::draft {

struct VerifyReport {
  uint64_t files = 0;
  uint64_t bytes = 0;
  uint64_t contexts = 0;
  uint64_t continuations = 0;
};

// Reads the whole snapshot folder: the checksum of every file, RocksDB's checksum of every block,
// every key and value, and the number of contexts of each order. Returns the first thing wrong,
// DATA_LOSS if it is damage; else as CorpusTier::Open. `progress` is called now and then with a
// share in [0, 1].
absl::StatusOr<VerifyReport> VerifySnapshot(const std::string& snapshot_dir,
                                            const std::function<void(double)>& progress);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_SNAPSHOT_VERIFIER_H_
