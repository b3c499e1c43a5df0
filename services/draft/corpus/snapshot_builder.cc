#include "services/draft/corpus/snapshot_builder.h"

#include <algorithm>
#include <filesystem>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "services/draft/corpus/database.h"
#include "services/draft/corpus/file_util.h"
#include "services/draft/corpus/snapshot_format.h"

namespace strata::draft {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMinMemoryBytes = 64 << 10;
constexpr int kMaxThreads = 256;
// Read from a run at a time.
constexpr size_t kMergeBytesPerRun = 64 << 10;
// Beyond it the disk would rather seek than read.
constexpr size_t kMaxFanIn = 256;

absl::Status FromErrorCode(std::error_code error, const std::string& what) {
  return absl::ErrnoToStatus(error.value(), what);
}

bool IsPlainName(const std::string& name) {
  return name.size() <= 200 && name[0] != '.' && name != kCurrentName &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                  c == '-' || c == '_' || c == '.';
         });
}

// With the manifest a snapshot is whole, but its build may have been stopped before its end.
bool IsWhole(const fs::path& snapshot) {
  std::error_code error;
  return fs::exists(snapshot / kManifestName, error);
}

// Whether it is a folder that a build left, and no foreign one that happens to have such a folder
// in it: what is not ours must never be cleaned away.
bool IsLeftover(const fs::path& snapshot, const std::string& job) {
  return Staging::IsOurs(snapshot.string()) &&
         (!IsWhole(snapshot) || (!job.empty() && Staging::LeftoverJob(snapshot.string()) == job));
}

// A folder in which an earlier build of the same work was stopped; empty if there is none.
std::string FindLeftover(const fs::path& root, const std::string& job) {
  std::vector<std::string> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(root, error)) {
    if (Staging::LeftoverJob(entry.path().string()) == job) {
      found.push_back(entry.path().filename().string());
    }
  }
  return found.empty() ? "" : *std::max_element(found.begin(), found.end());
}

// The folder to build in, new or left by an earlier build. Without a name asked for, takes the
// time, and counts on if another build took the same second.
absl::StatusOr<std::string> MakeSnapshotDir(const fs::path& root, const BuilderOptions& options) {
  if (options.name.empty() && !options.job.empty()) {
    std::string leftover = FindLeftover(root, options.job);
    if (!leftover.empty()) return leftover;
  }
  const std::string base =
      options.name.empty() ? absl::FormatTime("%Y%m%dT%H%M%SZ", absl::Now(), absl::UTCTimeZone())
                           : options.name;
  for (int attempt = 1;; ++attempt) {
    const std::string name = attempt == 1 ? base : absl::StrCat(base, "-", attempt);
    std::error_code error;
    if (fs::create_directory(root / name, error)) return name;
    if (error) return FromErrorCode(error, absl::StrCat("cannot create ", (root / name).string()));
    // Killed before it had made more than the folder, or later.
    if (!options.name.empty() &&
        (IsLeftover(root / name, options.job) || fs::is_empty(root / name, error))) {
      return name;
    }
    if (!options.name.empty() || attempt == 100) {
      return absl::AlreadyExistsError(absl::StrCat(
          (root / name).string(), " is there already; choose another name, or remove it first"));
    }
  }
}

}  // namespace

absl::Status CheckBuildThreads(int threads) {
  if (threads >= 1 && threads <= kMaxThreads) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("threads: ", threads, " is not in 1 to ", kMaxThreads));
}

absl::StatusOr<std::unique_ptr<SnapshotBuilder>> SnapshotBuilder::Create(
    const std::string& root, const std::string& tokenizer_fingerprint, int64_t vocab_size,
    const BuilderOptions& options) {
  absl::Status status = ValidateCountOptions(options.count);
  if (!status.ok()) return status;
  if (vocab_size < 1 || vocab_size > kMaxVocab) {
    return absl::InvalidArgumentError(
        absl::StrCat("a vocabulary of ", vocab_size, " tokens; 1 to ", kMaxVocab, " are allowed"));
  }
  if (options.memory_bytes < kMinMemoryBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "memory: ", options.memory_bytes, " bytes; at least ", kMinMemoryBytes, " are needed"));
  }
  if (options.sst_bytes < 1) return absl::InvalidArgumentError("sst_bytes: must be at least 1");
  if (!options.name.empty() && !IsPlainName(options.name)) {
    return absl::InvalidArgumentError(
        absl::StrCat("name: \"", options.name,
                     "\" is not a plain folder name (letters, digits, '-', "
                     "'_', '.'; not '.' first)"));
  }
  std::error_code error;
  fs::create_directories(root, error);
  if (error) return FromErrorCode(error, absl::StrCat("cannot create ", root));
  if (fs::exists(fs::path(root) / kManifestName, error)) {
    return absl::InvalidArgumentError(
        absl::StrCat(root, " is itself a snapshot; name the folder that holds the snapshots"));
  }
  if (absl::Status status = CheckBuildThreads(options.threads); !status.ok()) return status;
  auto name = MakeSnapshotDir(root, options);
  if (!name.ok()) return name.status();
  const fs::path path = fs::path(root) / *name;
  const bool whole = IsWhole(path);
  auto staging = Staging::Open(path.string(), options.job, options.fresh, whole);
  if (!staging.ok()) return staging.status();
  Manifest manifest;
  manifest.tokenizer_fingerprint = tokenizer_fingerprint;
  manifest.vocab_size = vocab_size;
  manifest.options = options.count;
  std::unique_ptr<SnapshotBuilder> builder(
      new SnapshotBuilder(root, path.string(), options, *std::move(staging), std::move(manifest)));
  builder->finished_ = whole;
  return builder;
}

SnapshotBuilder::SnapshotBuilder(std::string root, std::string path, const BuilderOptions& options,
                                 std::unique_ptr<Staging> staging, Manifest manifest)
    : root_(std::move(root)),
      path_(std::move(path)),
      name_(FolderName(path_)),
      options_(options),
      staging_(std::move(staging)),
      manifest_(std::move(manifest)) {}

SnapshotBuilder::~SnapshotBuilder() {
  if (finished_ || keep_) return;
  std::error_code error;
  fs::remove_all(path_, error);
}

std::unique_ptr<WindowSpiller> SnapshotBuilder::NewSpiller(size_t memory_bytes) {
  return std::make_unique<WindowSpiller>(options_.count.max_order, manifest_.vocab_size,
                                         memory_bytes, staging_.get());
}

absl::Status SnapshotBuilder::AddDocument(const std::vector<TokenId>& tokens) {
  if (own_spiller_ == nullptr) own_spiller_ = NewSpiller(options_.memory_bytes);
  return own_spiller_->Add({&tokens, 1}, 1, nullptr);
}

absl::StatusOr<Manifest> SnapshotBuilder::Finish(const std::function<void(double)>& progress,
                                                 const std::function<absl::Status()>& check) {
  if (own_spiller_ != nullptr) {
    absl::Status status = own_spiller_->Flush();
    if (!status.ok()) return status;
    // The merge needs the memory that the windows had.
    own_spiller_.reset();
  }
  runs_ = static_cast<int>(staging_->runs().size());
  const size_t fan_in = std::clamp<size_t>(
      options_.memory_bytes / kMergeBytesPerRun / static_cast<size_t>(options_.threads), 2,
      kMaxFanIn);
  absl::Status status = staging_->MergeDown(fan_in, kMergeBytesPerRun);
  if (!status.ok()) return status;
  const auto runs = staging_->runs();
  WindowCounts counts;
  for (const auto& run : runs) {
    counted_.documents += run->contents().documents;
    counted_.tokens += run->contents().tokens;
    counted_.parts.insert(counted_.parts.end(), run->contents().parts.begin(),
                          run->contents().parts.end());
    for (const RunSection& section : run->sections()) counts[section.first] += section.windows;
  }
  const WindowSource source = [&](TokenId first, TokenId last) {
    std::vector<std::unique_ptr<WindowCursor>> cursors;
    cursors.reserve(runs.size());
    for (const auto& run : runs) {
      cursors.push_back(RunFile::Read(run, first, last, kMergeBytesPerRun));
    }
    return cursors;
  };
  return FinishFrom(source, counts, counted_.documents, counted_.tokens, progress, check);
}

absl::StatusOr<Manifest> SnapshotBuilder::FinishFrom(const WindowSource& source,
                                                     const WindowCounts& counts, uint64_t documents,
                                                     uint64_t tokens,
                                                     const std::function<void(double)>& progress,
                                                     const std::function<absl::Status()>& check) {
  if (tokens == 0) {
    return absl::InvalidArgumentError("the input holds no text: nothing to build a snapshot from");
  }
  manifest_.documents = documents;
  manifest_.tokens = tokens;
  if (finished_) {
    auto manifest = ReadManifest(path_);
    return manifest.ok() ? Publish(*std::move(manifest)) : manifest.status();
  }
  const fs::path path(path_);
  RowWriterOptions options;
  options.count = options_.count;
  options.sst_bytes = options_.sst_bytes;
  options.part_windows = options_.part_windows;
  options.threads = options_.threads;
  options.dir = staging_->path();
  options.progress = progress;
  options.check = check;
  auto rows = WriteRows(source, counts, options);
  if (!rows.ok()) return rows.status();
  manifest_.contexts = rows->contexts;
  absl::Status status = MakeDatabase(std::move(rows->files), (path / kDatabaseName).string());
  if (status.ok()) status = ListFiles();
  if (status.ok()) {
    status = WriteFileAtomically((path / kManifestName).string(), ManifestToJson(manifest_));
  }
  if (!status.ok()) return status;
  // A snapshot from here on, whether or not the rest can be done.
  finished_ = true;
  progress(1.0);
  return Publish(manifest_);
}

absl::StatusOr<Manifest> SnapshotBuilder::Publish(Manifest manifest) {
  absl::Status status = SyncPath(root_);
  if (status.ok() && !options_.count.shard && !options_.keep_current) {
    status = WriteFileAtomically((fs::path(root_) / kCurrentName).string(), name_ + "\n");
  }
  if (!status.ok()) return status;
  // Last, because until then the same work must find its job here again.
  std::error_code error;
  fs::remove_all(fs::path(path_) / Staging::kName, error);
  if (error) return FromErrorCode(error, absl::StrCat("cannot clean ", path_));
  status = SyncPath(path_);
  if (!status.ok()) return status;
  return manifest;
}

absl::Status SnapshotBuilder::ListFiles() {
  const fs::path database = fs::path(path_) / kDatabaseName;
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(database, error)) {
    names.push_back(entry.path().filename().string());
  }
  if (error) return FromErrorCode(error, absl::StrCat("cannot list ", database.string()));
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    const std::string file = (database / name).string();
    auto digest = DigestFile(file);
    if (!digest.ok()) return digest.status();
    absl::Status status = SyncPath(file);
    if (!status.ok()) return status;
    manifest_.files.push_back({absl::StrCat(kDatabaseName, "/", name), digest->size, digest->xxh3});
  }
  return SyncPath(database.string());
}

}  // namespace strata::draft
