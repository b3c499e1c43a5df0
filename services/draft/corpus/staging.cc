#include "services/draft/corpus/staging.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "services/draft/corpus/file_util.h"

namespace strata::draft {
namespace {

namespace fs = std::filesystem;

constexpr char kJobName[] = "job";
constexpr char kLockName[] = "lock";
constexpr char kRunPrefix[] = "run-";
constexpr size_t kMaxJobBytes = size_t{1} << 30;
constexpr TokenId kEndToken = 1 << 24;

// The number of the run in `path`; 0 if it is no run.
uint64_t RunNumber(const fs::path& path) {
  const std::string name = path.filename().string();
  absl::string_view digits = name;
  uint64_t number = 0;
  if (!absl::ConsumePrefix(&digits, kRunPrefix) || !absl::SimpleAtoi(digits, &number)) return 0;
  return number;
}

// Removes all in `folder` for which `keep` is false.
template <typename Keep>
absl::Status Clean(const fs::path& folder, Keep keep) {
  std::error_code error;
  std::vector<fs::path> surplus;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (!keep(entry.path())) surplus.push_back(entry.path());
  }
  for (const fs::path& path : surplus) {
    if (!error) fs::remove_all(path, error);
  }
  if (!error) return absl::OkStatus();
  return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot clean ", folder.string()));
}

}  // namespace

bool Staging::IsOurs(const std::string& snapshot_dir) {
  const fs::path folder = fs::path(snapshot_dir) / kName;
  std::error_code error;
  if (fs::exists(folder / kJobName, error)) return true;
  if (!fs::is_directory(folder, error)) return false;
  const auto holds_only = [&error](const fs::path& path, std::string_view name) {
    for (const auto& entry : fs::directory_iterator(path, error)) {
      if (entry.path().filename() != name) return false;
    }
    return !error;
  };
  return holds_only(snapshot_dir, kName) && holds_only(folder, kLockName);
}

std::string Staging::LeftoverJob(const std::string& snapshot_dir) {
  auto job = ReadSmallFile((fs::path(snapshot_dir) / kName / kJobName).string(), kMaxJobBytes);
  return job.ok() ? *std::move(job) : "";
}

absl::StatusOr<std::unique_ptr<Staging>> Staging::Open(const std::string& snapshot_dir,
                                                       const std::string& job, bool fresh,
                                                       bool whole) {
  const fs::path path = fs::path(snapshot_dir) / kName;
  std::error_code error;
  fs::create_directories(path, error);
  if (error) {
    return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot create ", path.string()));
  }
  auto lock = FileLock::Acquire((path / kLockName).string());
  if (!lock.ok()) return lock.status();
  const bool same = !fresh && !job.empty() && LeftoverJob(snapshot_dir) == job;
  // What is beside the folder was made after the runs, and is made from them again.
  absl::Status status =
      Clean(snapshot_dir, [&](const fs::path& at) { return whole || at == path; });
  if (status.ok()) {
    status = Clean(path, [&](const fs::path& at) {
      const fs::path name = at.filename();
      return name == kLockName || (same && (name == kJobName || RunNumber(at) > 0));
    });
  }
  if (status.ok() && !same) status = WriteFileAtomically((path / kJobName).string(), job);
  if (!status.ok()) return status;
  std::unique_ptr<Staging> staging(new Staging(path.string(), *std::move(lock)));
  status = staging->LoadRuns();
  if (!status.ok()) return status;
  return staging;
}

absl::Status Staging::LoadRuns() {
  absl::MutexLock lock(&mutex_);
  std::map<uint64_t, std::shared_ptr<const RunFile>> found;
  std::error_code error;
  std::vector<fs::path> damaged;
  for (const auto& entry : fs::directory_iterator(path_, error)) {
    const uint64_t number = RunNumber(entry.path());
    if (number == 0) continue;
    next_run_ = std::max(next_run_, number + 1);
    auto run = RunFile::Open(entry.path().string());
    if (run.ok()) {
      found[number] = *std::move(run);
    } else {
      // What it held is counted again.
      damaged.emplace_back(entry.path());
    }
  }
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot list ", path_));
  // A merge that was killed may have left what it replaced.
  std::set<uint64_t> replaced;
  for (const auto& [number, run] : found) {
    replaced.insert(run->contents().replaces.begin(), run->contents().replaces.end());
  }
  for (uint64_t number : replaced) {
    const auto at = found.find(number);
    if (at == found.end()) continue;
    damaged.push_back(at->second->path());
    found.erase(at);
  }
  for (const fs::path& path : damaged) fs::remove(path, error);
  for (auto& [number, run] : found) {
    for (const InputPart& part : run->contents().parts) {
      parts_[part.file].insert(part.part);
      if (part.last) part_count_[part.file] = part.part + 1;
    }
    runs_.push_back(std::move(run));
  }
  resumed_runs_ = runs_.size();
  return absl::OkStatus();
}

bool Staging::HasPart(uint64_t file, uint64_t part) const {
  const auto at = parts_.find(file);
  return at != parts_.end() && at->second.contains(part);
}

bool Staging::HasFile(uint64_t file) const {
  const auto count = part_count_.find(file);
  return count != part_count_.end() && parts_.at(file).size() == count->second;
}

std::string Staging::NewRunPath() {
  absl::MutexLock lock(&mutex_);
  return absl::StrCat(path_, "/", kRunPrefix, next_run_++);
}

absl::Status Staging::Adopt(const std::string& run_path) {
  auto run = RunFile::Open(run_path);
  if (!run.ok()) return run.status();
  absl::MutexLock lock(&mutex_);
  runs_.push_back(*std::move(run));
  return absl::OkStatus();
}

std::vector<std::shared_ptr<const RunFile>> Staging::runs() const {
  absl::MutexLock lock(&mutex_);
  return runs_;
}

absl::Status Staging::MergeDown(size_t fan_in, size_t buffer_bytes) {
  for (std::vector<std::shared_ptr<const RunFile>> all = runs(); all.size() > fan_in;
       all = runs()) {
    // No more than is needed, the oldest first: those of a merge come last, so that runs of like
    // size are merged with each other.
    const size_t taken = std::min(fan_in, all.size() - fan_in + 1);
    RunContents contents;
    std::vector<std::unique_ptr<WindowCursor>> cursors;
    for (size_t i = 0; i < taken; ++i) {
      const RunContents& part = all[i]->contents();
      contents.documents += part.documents;
      contents.tokens += part.tokens;
      contents.parts.insert(contents.parts.end(), part.parts.begin(), part.parts.end());
      contents.replaces.push_back(RunNumber(all[i]->path()));
      cursors.push_back(RunFile::Read(all[i], 0, kEndToken, buffer_bytes));
    }
    const std::string path = NewRunPath();
    auto writer = RunWriter::Create(path);
    if (!writer.ok()) return writer.status();
    absl::Status status = MergeWindows(
        std::move(cursors), [&](const Window& window) { return (*writer)->Add(window); });
    if (status.ok()) status = (*writer)->Finish(contents);
    if (status.ok()) status = Adopt(path);
    if (!status.ok()) return status;
    {
      absl::MutexLock lock(&mutex_);
      runs_.erase(runs_.begin(), runs_.begin() + static_cast<std::ptrdiff_t>(taken));
    }
    std::error_code error;
    for (size_t i = 0; i < taken && !error; ++i) fs::remove(all[i]->path(), error);
    if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot clean ", path_));
  }
  return absl::OkStatus();
}

}  // namespace strata::draft
