#ifndef STRATA_SERVICES_DRAFT_CORPUS_MANIFEST_H_
#define STRATA_SERVICES_DRAFT_CORPUS_MANIFEST_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/draft/corpus/count_options.h"

namespace strata::draft {

inline constexpr char kManifestName[] = "manifest.json";
inline constexpr char kCurrentName[] = "CURRENT";
// The folder of the RocksDB in a snapshot.
inline constexpr char kDatabaseName[] = "rocksdb";

// What a snapshot says about itself. README.md specifies the JSON.
struct Manifest {
  struct File {
    std::string path;  // relative to the snapshot, parts separated by '/'
    uint64_t size = 0;
    std::string xxh3;  // see FileDigest
  };

  std::string tokenizer_fingerprint;
  int64_t vocab_size = 0;
  CountOptions options;
  uint64_t documents = 0;
  uint64_t tokens = 0;
  // contexts[i] is the number of contexts of i + 1 tokens; in a shard, of those that begin a
  // window.
  std::vector<uint64_t> contexts;
  std::vector<File> files;

  uint64_t context_count() const;
  uint64_t file_bytes() const;
};

// Ends with a line feed; the same manifest gives the same bytes.
std::string ManifestToJson(const Manifest& manifest);

// FAILED_PRECONDITION for a foreign format version, which it names; DATA_LOSS for anything that
// ManifestToJson would not have written.
absl::StatusOr<Manifest> ParseManifest(std::string_view text);

// Resolves what CorpusTier::Open takes to the snapshot's folder.
absl::StatusOr<std::string> ResolveSnapshot(const std::string& dir);

// Reads the manifest of a snapshot's or shard's folder; the errors are CorpusTier::Open's.
absl::StatusOr<Manifest> ReadManifest(const std::string& snapshot_dir);

// The last part of a folder's path.
std::string FolderName(const std::string& dir);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_MANIFEST_H_
