#ifndef STRATA_SERVICES_DRAFT_CORPUS_STAGING_H_
#define STRATA_SERVICES_DRAFT_CORPUS_STAGING_H_

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/base/atomic_file.h"
#include "services/draft/corpus/run_file.h"

namespace strata::draft {

// The temporary folder of a build, inside the folder of the snapshot that is being made. It holds a
// description of the job, the finished runs, and a lock. Because a run gets its name in one step
// and says itself what it was counted from, a build that was killed at any moment can go on from
// the runs that are there: every part of the input is in one run or in none. Thread-safe where
// noted.
class Staging {
 public:
  // Name of the folder.
  static constexpr char kName[] = "staging";

  // Opens or makes `snapshot_dir`/staging. What an earlier build of the same `job` left is kept,
  // unless `fresh`; anything else is removed, in `snapshot_dir` too unless it is `whole`.
  // FAILED_PRECONDITION if a running build has it.
  static absl::StatusOr<std::unique_ptr<Staging>> Open(const std::string& snapshot_dir,
                                                       const std::string& job, bool fresh = false,
                                                       bool whole = false);
  // Whether a build made `snapshot_dir`: there is its job, or nothing yet but the folder and lock
  // it begins with.
  static bool IsOurs(const std::string& snapshot_dir);
  // The job of an unfinished build in `snapshot_dir`; empty if there is none.
  static std::string LeftoverJob(const std::string& snapshot_dir);

  const std::string& path() const { return path_; }
  // Runs that an earlier build left.
  size_t resumed_runs() const { return resumed_runs_; }
  // Whether a run that an earlier build left holds this part; all parts of this file.
  bool HasPart(uint64_t file, uint64_t part) const;
  bool HasFile(uint64_t file) const;

  // Thread-safe: a path for the next run, which is to be given to Adopt when it is written.
  std::string NewRunPath() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Adopt(const std::string& run_path) ABSL_LOCKS_EXCLUDED(mutex_);
  // Merges runs until at most `fan_in` are left, each cursor reading `buffer_bytes` at a time.
  absl::Status MergeDown(size_t fan_in, size_t buffer_bytes) ABSL_LOCKS_EXCLUDED(mutex_);
  std::vector<std::shared_ptr<const RunFile>> runs() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  Staging(std::string path, FileLock lock) : path_(std::move(path)), lock_(std::move(lock)) {}
  absl::Status LoadRuns();

  const std::string path_;
  const FileLock lock_;
  size_t resumed_runs_ = 0;
  // By file: the parts that runs hold, and the number of parts if the last one is among them.
  std::map<uint64_t, std::set<uint64_t>> parts_;
  std::map<uint64_t, uint64_t> part_count_;

  mutable absl::Mutex mutex_;
  uint64_t next_run_ ABSL_GUARDED_BY(mutex_) = 1;
  std::vector<std::shared_ptr<const RunFile>> runs_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_STAGING_H_
