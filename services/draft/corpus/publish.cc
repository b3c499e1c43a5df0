#include "services/draft/corpus/publish.h"

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "common/base/atomic_file.h"
#include "services/draft/corpus/manifest.h"

namespace strata::draft {

namespace fs = std::filesystem;

absl::StatusOr<std::string> PublishSnapshot(const std::string& snapshot_dir) {
  std::error_code error;
  if (!fs::is_directory(snapshot_dir, error)) {
    return absl::NotFoundError(absl::StrCat("no such folder: ", snapshot_dir));
  }
  auto manifest = ReadManifest(snapshot_dir);
  if (!manifest.ok()) return manifest.status();
  if (manifest->options.shard) {
    return absl::FailedPreconditionError(
        absl::StrCat(snapshot_dir, " is a shard: merge shards into a snapshot first"));
  }
  const fs::path root = (fs::path(snapshot_dir) / "").lexically_normal().parent_path() / "..";
  std::string before;
  if (fs::exists(root / kCurrentName, error)) {
    // A pointer that leads nowhere is what this mends.
    if (auto live = ResolveSnapshot(root.string()); live.ok()) {
      auto other = ReadManifest(*live);
      if (other.ok() && other->tokenizer_fingerprint != manifest->tokenizer_fingerprint) {
        return absl::FailedPreconditionError(
            absl::StrCat(snapshot_dir, " is of tokenizer ", manifest->tokenizer_fingerprint,
                         ", the live ", FolderName(*live), " of ", other->tokenizer_fingerprint,
                         "; services would refuse it: keep it in a folder of its own"));
      }
      before = FolderName(*live);
    }
  }
  absl::Status status = WriteFileAtomically((root / kCurrentName).string(),
                                            absl::StrCat(FolderName(snapshot_dir), "\n"));
  if (!status.ok()) return status;
  return before;
}

}  // namespace strata::draft
