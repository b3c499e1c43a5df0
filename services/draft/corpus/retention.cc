#include "services/draft/corpus/retention.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <tuple>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "services/draft/corpus/manifest.h"

namespace strata::draft {
namespace {

namespace fs = std::filesystem;

// A snapshot on its way out has this behind its name, so that nothing opens it half. No build gives
// such a name.
constexpr char kRemoved[] = "~removed";

struct Snapshot {
  fs::path path;
  fs::file_time_type made;
};

absl::Status Remove(const fs::path& path) {
  std::error_code error;
  fs::path out = path;
  if (!absl::EndsWith(path.string(), kRemoved)) {
    out += kRemoved;
    fs::rename(path, out, error);
  }
  if (!error) fs::remove_all(out, error);
  if (!error) return absl::OkStatus();
  return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot remove ", path.string()));
}

}  // namespace

absl::StatusOr<std::vector<std::string>> RemoveOldSnapshots(const std::string& root, size_t keep,
                                                            const std::set<std::string>& spared) {
  const auto live = ResolveSnapshot(root);
  if (!live.ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat("nothing is removed from ", root, ": ", live.status().message()));
  }
  std::vector<Snapshot> snapshots;
  std::vector<fs::path> leftovers;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(root, error)) {
    std::error_code ignored;
    if (!entry.is_directory(ignored) || entry.is_symlink(ignored)) continue;
    // Perhaps without its manifest by now.
    if (absl::EndsWith(entry.path().string(), kRemoved)) {
      leftovers.push_back(entry.path());
      continue;
    }
    const auto made = fs::last_write_time(entry.path() / kManifestName, ignored);
    if (ignored) continue;
    const auto manifest = ReadManifest(entry.path().string());
    if (manifest.ok() && !manifest->options.shard) snapshots.push_back({entry.path(), made});
  }
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot read ", root));
  std::sort(snapshots.begin(), snapshots.end(), [](const Snapshot& a, const Snapshot& b) {
    return std::tie(a.made, a.path) < std::tie(b.made, b.path);
  });
  for (const fs::path& leftover : leftovers) {
    if (absl::Status status = Remove(leftover); !status.ok()) return status;
  }
  snapshots.resize(snapshots.size() - std::min(snapshots.size(), keep));
  std::vector<std::string> removed;
  for (const Snapshot& old : snapshots) {
    const std::string name = FolderName(old.path.string());
    if (name == FolderName(*live) || spared.contains(name)) continue;
    if (absl::Status status = Remove(old.path); !status.ok()) return status;
    removed.push_back(name);
  }
  return removed;
}

}  // namespace strata::draft
