#ifndef STRATA_SERVICES_DRAFT_CORPUS_BUILD_H_
#define STRATA_SERVICES_DRAFT_CORPUS_BUILD_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "services/draft/corpus/document_reader.h"
#include "services/draft/corpus/manifest.h"
#include "services/draft/corpus/snapshot_builder.h"

namespace strata::draft {

struct BuildRequest {
  // Folder with the model's tokenizer.json.
  std::string tokenizer_dir;
  // Folder that holds the snapshots.
  std::string root;
  // Files and folders.
  std::vector<std::string> inputs;
  ReadOptions read;
  BuilderOptions builder;
  // Threads that tokenize; at least 1.
  int threads = 1;
  // Called now and then, from one thread, with the phase and the share of it done.
  std::function<void(const char* phase, double share)> progress = [](const char*, double) {};
  // If set and true, the build ends with CANCELLED and removes what it made.
  const std::atomic<bool>* cancel = nullptr;
};

struct BuildReport {
  std::string path;  // of the snapshot
  Manifest manifest;
  uint64_t files = 0;
  ReadCounts skipped;
  int spilled_runs = 0;
};

// From files to a finished snapshot: what `strata-corpus build` does. The snapshot
// does not depend on the number of threads.
absl::StatusOr<BuildReport> BuildFromFiles(const BuildRequest& request);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_BUILD_H_
