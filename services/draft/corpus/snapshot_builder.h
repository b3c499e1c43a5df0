#ifndef STRATA_SERVICES_DRAFT_CORPUS_SNAPSHOT_BUILDER_H_
#define STRATA_SERVICES_DRAFT_CORPUS_SNAPSHOT_BUILDER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/draft/corpus/count_options.h"
#include "services/draft/corpus/manifest.h"
#include "services/draft/corpus/row_writer.h"
#include "services/draft/corpus/staging.h"
#include "services/draft/corpus/window_spiller.h"

namespace strata::draft {

// INVALID_ARGUMENT unless a builder can work with so many.
absl::Status CheckBuildThreads(int threads);

struct BuilderOptions {
  CountOptions count;
  // For the windows being sorted by all threads, or for the merge. BuildFromFiles (build.h) takes
  // it for a limit of the whole process.
  size_t memory_bytes = size_t{1} << 30;
  // Threads that write rows; at least 1.
  int threads = 1;
  // An SST file is closed when it is larger.
  uint64_t sst_bytes = uint64_t{64} << 20;
  // Windows that are worth a part of their own, with files of its own; see WriteRows.
  uint64_t part_windows = uint64_t{4} << 20;
  // Name of the snapshot's folder; empty: the time, as 20250131T235959Z.
  std::string name;
  // Describes the work, so that the same work goes on after a kill: a folder without a manifest
  // that an earlier build with the same description left is taken over with its finished runs.
  // Empty: never.
  std::string job;
  // Discard what an earlier build left instead.
  bool fresh = false;
  // Leave CURRENT as it is: the snapshot is to be checked before it is live.
  bool keep_current = false;
};

// Builds one snapshot, or shard, from documents of tokens: ROOT/<name>/, and at the end
// ROOT/CURRENT (not for a shard, nor if it is to be kept). Until the manifest is written, which
// comes last, the folder is no snapshot to any reader. Not thread-safe, except that spillers may be
// used by a thread each.
class SnapshotBuilder {
 public:
  // Makes `root`, if need be, and the snapshot's folder. INVALID_ARGUMENT for an option, a
  // vocabulary of more than kMaxVocab or a name that is no plain folder name; ALREADY_EXISTS if
  // there is a folder of that name that is no unfinished build; FAILED_PRECONDITION if it is one
  // that is still running.
  static absl::StatusOr<std::unique_ptr<SnapshotBuilder>> Create(
      const std::string& root, const std::string& tokenizer_fingerprint, int64_t vocab_size,
      const BuilderOptions& options);
  // Removes the folder if Finish has not succeeded, unless it is to be kept.
  ~SnapshotBuilder();

  // What counts documents for one thread in `memory_bytes`; flush it before Finish. The builder
  // outlives it.
  std::unique_ptr<WindowSpiller> NewSpiller(size_t memory_bytes);
  // What earlier builds of the same work have counted.
  const Staging& staging() const { return *staging_; }
  // Counts a document alone, with a spiller of the builder's own. INVALID_ARGUMENT for a token out
  // of range.
  absl::Status AddDocument(const std::vector<TokenId>& tokens);

  // Writes the database and the manifest and moves CURRENT. INVALID_ARGUMENT if there were no
  // tokens; FAILED_PRECONDITION if no context was left. `progress` is called now and then with a
  // share in [0, 1], by one thread at a time; `check` often, and an error of it ends the build.
  // Call at most once.
  absl::StatusOr<Manifest> Finish(
      const std::function<void(double)>& progress = [](double) {},
      const std::function<absl::Status()>& check = [] { return absl::OkStatus(); });
  // The same for windows that come from elsewhere; of so many documents and tokens.
  absl::StatusOr<Manifest> FinishFrom(const WindowSource& source, const WindowCounts& counts,
                                      uint64_t documents, uint64_t tokens,
                                      const std::function<void(double)>& progress,
                                      const std::function<absl::Status()>& check);
  // If the build does not succeed, its folder stays, for the same work to go on from.
  void KeepUnfinished() { keep_ = true; }

  // The snapshot's folder.
  const std::string& path() const { return path_; }
  const std::string& name() const { return name_; }
  // What the finished runs say, lines and files left out included.
  const RunContents& counted() const { return counted_; }
  int runs() const { return runs_; }
  // Whether an earlier build of the same work was stopped after the snapshot was whole: Finish then
  // only publishes it.
  bool whole() const { return finished_; }

 private:
  SnapshotBuilder(std::string root, std::string path, const BuilderOptions& options,
                  std::unique_ptr<Staging> staging, Manifest manifest);
  // What comes after the manifest: CURRENT, and cleaning up.
  absl::StatusOr<Manifest> Publish(Manifest manifest);
  // Lists the files with their checksums in the manifest and makes them durable.
  absl::Status ListFiles();

  const std::string root_;
  const std::string path_;
  const std::string name_;
  const BuilderOptions options_;
  std::unique_ptr<Staging> staging_;
  Manifest manifest_;
  std::unique_ptr<WindowSpiller> own_spiller_;
  RunContents counted_;
  int runs_ = 0;
  bool keep_ = false;
  bool finished_ = false;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_SNAPSHOT_BUILDER_H_
