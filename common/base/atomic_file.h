#ifndef STRATA_COMMON_BASE_ATOMIC_FILE_H_
#define STRATA_COMMON_BASE_ATOMIC_FILE_H_

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace strata {

// What a temporary file of WriteFileAtomically is called: the path plus this.
inline constexpr char kTemporarySuffix[] = ".tmp";

// Replaces the file's content as a whole: after a crash at any moment `path` holds the old
// content or the new. Only one writer at a time for one path.
absl::Status WriteFileAtomically(const std::string& path, absl::string_view content);

// RESOURCE_EXHAUSTED if the file is longer than max_bytes.
absl::StatusOr<std::string> ReadWholeFile(const std::string& path, size_t max_bytes);

// An exclusive advisory lock on a file, which is made if missing; held while the object lives,
// freed by the system if the process dies.
class FileLock {
 public:
  // FAILED_PRECONDITION if another holder has it.
  static absl::StatusOr<FileLock> Acquire(const std::string& path);
  FileLock() = default;
  ~FileLock();
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&& other) noexcept;

 private:
  explicit FileLock(int fd) : fd_(fd) {}
  int fd_ = -1;
};

}  // namespace strata

#endif  // STRATA_COMMON_BASE_ATOMIC_FILE_H_
