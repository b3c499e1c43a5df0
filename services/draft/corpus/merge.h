#ifndef STRATA_SERVICES_DRAFT_CORPUS_MERGE_H_
#define STRATA_SERVICES_DRAFT_CORPUS_MERGE_H_

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "services/draft/corpus/manifest.h"
#include "services/draft/corpus/snapshot_builder.h"

namespace strata::draft {

struct MergeRequest {
  // Folder that holds the snapshots.
  std::string root;
  // Shards, each a folder with a manifest; all of one tokenizer and one longest context.
  std::vector<std::string> shards;
  // Its count.max_order is the shards', whatever it says.
  BuilderOptions builder;
  // As in BuildRequest.
  std::function<void(const char* phase, double share)> progress = [](const char*, double) {};
  const std::atomic<bool>* cancel = nullptr;
};

struct MergeReport {
  std::string path;  // of the snapshot
  Manifest manifest;
};

// Joins shards into a snapshot, or a larger shard, whose SST files equal those of one build over
// the input of all with the same options. INVALID_ARGUMENT if a shard is named twice;
// FAILED_PRECONDITION for a snapshot that is no shard, or for shards that do not fit together; else
// as CorpusTier::Open.
absl::StatusOr<MergeReport> MergeShards(const MergeRequest& request);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_MERGE_H_
