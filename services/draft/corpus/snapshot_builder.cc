#include "services/draft/corpus/snapshot_builder.h"

#include <algorithm>
#include <filesystem>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "services/draft/corpus/file_util.h"
#include "services/draft/corpus/sst_output.h"

namespace strata::draft {
namespace {

namespace fs = std::filesystem;

// Temporary files, in the snapshot's folder until the manifest is written.
constexpr char kStagingName[] = "staging";
constexpr size_t kMinMemoryBytes = 64 << 10;

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

// Makes the folder, which must be new. Without a name asked for, takes the time, and
// counts on if another build took the same second.
absl::StatusOr<std::string> MakeSnapshotDir(const fs::path& root, const std::string& wanted) {
  const std::string base =
      wanted.empty() ? absl::FormatTime("%Y%m%dT%H%M%SZ", absl::Now(), absl::UTCTimeZone())
                     : wanted;
  for (int attempt = 1;; ++attempt) {
    const std::string name = attempt == 1 ? base : absl::StrCat(base, "-", attempt);
    std::error_code error;
    if (fs::create_directory(root / name, error)) return name;
    if (error) return FromErrorCode(error, absl::StrCat("cannot create ", (root / name).string()));
    if (!wanted.empty() || attempt == 100) {
      return absl::AlreadyExistsError(absl::StrCat(
          (root / name).string(), " is there already; choose another name, or remove it first"));
    }
  }
}

}  // namespace

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
    return absl::InvalidArgumentError(absl::StrCat(
        "name: \"", options.name,
        "\" is not a plain folder name (letters, digits, '-', '_', '.'; not '.' first)"));
  }
  std::error_code error;
  fs::create_directories(root, error);
  if (error) return FromErrorCode(error, absl::StrCat("cannot create ", root));
  if (fs::exists(fs::path(root) / kManifestName, error)) {
    return absl::InvalidArgumentError(
        absl::StrCat(root, " is itself a snapshot; name the folder that holds the snapshots"));
  }
  auto name = MakeSnapshotDir(root, options.name);
  if (!name.ok()) return name.status();
  const fs::path path = fs::path(root) / *name;
  Manifest manifest;
  manifest.tokenizer_fingerprint = tokenizer_fingerprint;
  manifest.vocab_size = vocab_size;
  manifest.options = options.count;
  // From here on the destructor removes the folder if something fails.
  std::unique_ptr<SnapshotBuilder> builder(
      new SnapshotBuilder(root, *name, path.string(), options, std::move(manifest)));
  fs::create_directory(path / kStagingName, error);
  if (error) return FromErrorCode(error, absl::StrCat("cannot create a folder in ", path.string()));
  return builder;
}

SnapshotBuilder::SnapshotBuilder(std::string root, std::string name, std::string path,
                                 const BuilderOptions& options, Manifest manifest)
    : root_(std::move(root)),
      name_(std::move(name)),
      path_(std::move(path)),
      options_(options),
      manifest_(std::move(manifest)),
      counter_(options.count, manifest_.vocab_size, options.memory_bytes,
               (fs::path(path_) / kStagingName).string()) {}

SnapshotBuilder::~SnapshotBuilder() {
  if (finished_) return;
  std::error_code error;
  fs::remove_all(path_, error);
}

absl::Status SnapshotBuilder::AddDocument(std::span<const TokenId> tokens, bool continues) {
  absl::Status status = counter_.Add(tokens);
  if (status.ok() && !continues) ++manifest_.documents;
  return status;
}

absl::StatusOr<Manifest> SnapshotBuilder::Finish(const std::function<void(double)>& progress,
                                                 const std::function<absl::Status()>& check) {
  if (counter_.token_count() == 0) {
    return absl::InvalidArgumentError("the input holds no text: nothing to build a snapshot from");
  }
  manifest_.tokens = counter_.token_count();
  const fs::path path(path_);
  const fs::path staging = path / kStagingName;
  SstOutput output(staging.string(), options_.sst_bytes);
  absl::Status status = counter_.Finish(
      [&](std::span<const TokenId> context, const ContextValue& value) {
        absl::Status checked = check();
        return checked.ok() ? output.Put(context, value) : checked;
      },
      progress);
  if (status.ok()) status = output.Ingest((path / kDatabaseName).string());
  if (!status.ok()) return status;
  for (int order : options_.count.orders) manifest_.contexts.push_back(output.contexts(order));
  std::error_code error;
  fs::remove_all(staging, error);
  if (error) return FromErrorCode(error, absl::StrCat("cannot remove ", staging.string()));
  status = ListFiles();
  if (status.ok()) {
    status = WriteFileAtomically((path / kManifestName).string(), ManifestToJson(manifest_));
  }
  if (!status.ok()) return status;
  // A snapshot from here on, whether or not CURRENT can be moved to it.
  finished_ = true;
  status = SyncPath(root_);
  if (status.ok()) {
    status = WriteFileAtomically((fs::path(root_) / kCurrentName).string(), name_ + "\n");
  }
  if (!status.ok()) return status;
  progress(1.0);
  return manifest_;
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
