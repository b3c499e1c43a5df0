#ifndef STRATA_SERVICES_DRAFT_CORPUS_RUN_FILE_H_
#define STRATA_SERVICES_DRAFT_CORPUS_RUN_FILE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/draft/corpus/windows.h"

namespace strata::draft {

// A part of an input file that was counted as a whole; see build.h for how files are cut.
struct InputPart {
  uint64_t file = 0;  // index in the list of inputs
  uint64_t part = 0;  // counted from 0 in its file
  bool last = false;  // of its file
  uint64_t skipped_lines = 0;
  bool skipped_binary = false;
};

// What a run was counted from.
struct RunContents {
  std::vector<InputPart> parts;
  uint64_t documents = 0;
  uint64_t tokens = 0;
  // Numbers of the runs that were merged into this one, and count no more.
  std::vector<uint64_t> replaces;
};

// The windows of a run whose context begins with one token.
struct RunSection {
  TokenId first = 0;
  uint64_t offset = 0;    // in bytes; ends where the next begins
  uint64_t windows = 0;   // occurrences
  uint64_t checksum = 0;  // XXH3 of its bytes
};

// The checksum of a section that is written or read piece by piece.
class SectionChecksum;

// Writes a run: sorted, distinct windows with counts in a temporary file. Windows are front-coded,
// as the length that a context shares with the one before, then the rest; anew for each first
// token, so that any range of first tokens can be read alone. An index of these sections, with a
// checksum of each, and the RunContents end the file. Not thread-safe.
class RunWriter {
 public:
  // Errors name `path` and the system's reason. The file is called `path`.tmp until it is whole.
  static absl::StatusOr<std::unique_ptr<RunWriter>> Create(const std::string& path);
  // Removes an unfinished file.
  ~RunWriter();
  absl::Status Add(const Window& window);
  // Makes the file durable and gives it its name, in one step. No Add after it.
  absl::Status Finish(const RunContents& contents);

 private:
  RunWriter(std::string path, int fd);
  absl::Status Flush();
  // Adds to the checksum what the section that is being written has in buffer_ and was not added.
  void SumUp();

  const std::string path_;
  int fd_;
  std::string buffer_;
  // Where in buffer_ begins what is not in checksum_ yet.
  size_t unsummed_ = 0;
  const std::unique_ptr<SectionChecksum> checksum_;
  uint64_t flushed_ = 0;
  std::vector<TokenId> last_;
  std::vector<RunSection> sections_;
};

// A finished run, opened. Cursors may be made and used by several threads at once.
class RunFile {
 public:
  // DATA_LOSS if the file is not what RunWriter wrote.
  static absl::StatusOr<std::shared_ptr<const RunFile>> Open(const std::string& path);
  ~RunFile();
  RunFile(const RunFile&) = delete;
  RunFile& operator=(const RunFile&) = delete;

  const std::string& path() const { return path_; }
  const std::vector<RunSection>& sections() const { return sections_; }
  const RunContents& contents() const { return contents_; }

  // Windows whose context begins with a token in [first, last); reads `buffer_bytes` at a time. The
  // cursor keeps the file open. Its Next() says DATA_LOSS at the latest behind the last window of a
  // section that is not what was written.
  static std::unique_ptr<WindowCursor> Read(std::shared_ptr<const RunFile> run, TokenId first,
                                            TokenId last, size_t buffer_bytes);

 private:
  friend class RunCursor;
  RunFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  absl::Status ReadIndex();

  const std::string path_;
  const int fd_;
  std::vector<RunSection> sections_;
  uint64_t data_end_ = 0;
  RunContents contents_;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_RUN_FILE_H_
