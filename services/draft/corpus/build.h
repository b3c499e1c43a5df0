#ifndef STRATA_SERVICES_DRAFT_CORPUS_BUILD_H_
#define STRATA_SERVICES_DRAFT_CORPUS_BUILD_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "services/draft/corpus/document_reader.h"
#include "services/draft/corpus/manifest.h"
#include "services/draft/corpus/snapshot_builder.h"
#include "services/draft/corpus/tier_reader.h"

namespace strata::draft {

struct BuildRequest {
  // Folder with the model's tokenizer.json.
  std::string tokenizer_dir;
  // Folder that holds the snapshots.
  std::string root;
  // Files and folders of text.
  std::vector<std::string> inputs;
  // Saved model tiers that are counted besides; see CheckTierSelection.
  TierSelection tiers;
  ReadOptions read;
  // Its job is filled in. Its threads also tokenize and sort. Its memory_bytes are a limit for the
  // whole process, except for what is held of one jsonl line or of one model tier's file beside it.
  BuilderOptions builder;
  // Called now and then, from one thread, with the phase and the share of it done.
  std::function<void(const char* phase, double share)> progress = [](const char*, double) {};
  // Called, from one thread, about what is left out and should not have to be.
  std::function<void(const std::string& warning)> warn = [](const std::string&) {};
  // If set and true, the build ends with CANCELLED; what it has counted stays for the next.
  const std::atomic<bool>* cancel = nullptr;
};

struct BuildReport {
  std::string path;  // of the snapshot
  Manifest manifest;
  uint64_t files = 0;
  ReadCounts skipped;
  // Of what this process read: a build that goes on does not read again what it has counted.
  TierCounts tiers;
  int runs = 0;
  // Of these, what an earlier build that was stopped had left.
  int resumed_runs = 0;
};

// The least BuilderOptions::memory_bytes for so many threads, at least 1.
size_t LeastBuildMemory(int threads);
// The most threads for which `memory_bytes` are enough; 0 if they are not for one.
int MostBuildThreads(size_t memory_bytes);

// From files to a finished snapshot: what `strata-corpus build` does. Each segment of a model tier
// counts as a document; what segments share to begin with is counted once. The snapshot does not
// depend on the number of threads, nor on how often the build was killed and started again with the
// same request: each input is counted in parts, and a part is in one run.
absl::StatusOr<BuildReport> BuildFromFiles(const BuildRequest& request);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_BUILD_H_
