#ifndef STRATA_SERVICES_DRAFT_CORPUS_FILE_UTIL_H_
#define STRATA_SERVICES_DRAFT_CORPUS_FILE_UTIL_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Files as the snapshot needs them. Errors name the path and the system's reason.
namespace strata::draft {

struct FileDigest {
  uint64_t size = 0;
  // 32 lower-case hex digits, XXH3 128 bit in its canonical (big-endian) form.
  std::string xxh3;
};

// 32 hex digits of the XXH3-128 of `bytes`.
std::string Xxh3Hex(std::string_view bytes);
absl::StatusOr<FileDigest> DigestFile(const std::string& path);

// RESOURCE_EXHAUSTED if the file has more than `max_bytes`.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path, size_t max_bytes);

// A reader sees the old contents or the new, never a part, even after a crash.
absl::Status WriteFileAtomically(const std::string& path, std::string_view contents);

// Makes what was written to a file, or the entries of a folder, durable.
absl::Status SyncPath(const std::string& path);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_FILE_UTIL_H_
