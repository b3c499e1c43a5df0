#include "services/draft/corpus/file_util.h"

#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace strata::draft {
namespace {

struct CloseFile {
  void operator()(FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<FILE, CloseFile>;

absl::Status Errno(const char* what, const std::string& path) {
  return absl::ErrnoToStatus(errno, absl::StrCat(what, " ", path));
}

std::string ToHex(XXH128_hash_t hash) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  return absl::BytesToHexString(
      {reinterpret_cast<const char*>(canonical.digest), sizeof canonical.digest});
}

}  // namespace

std::string Xxh3Hex(std::string_view bytes) {
  return ToHex(XXH3_128bits(bytes.data(), bytes.size()));
}

absl::StatusOr<FileDigest> DigestFile(const std::string& path) {
  const File file(std::fopen(path.c_str(), "rb"));
  if (file == nullptr) return Errno("cannot open", path);
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(),
                                                                       &XXH3_freeState);
  XXH3_128bits_reset(state.get());
  std::vector<char> buffer(1 << 20);
  FileDigest digest;
  while (const size_t got = std::fread(buffer.data(), 1, buffer.size(), file.get())) {
    XXH3_128bits_update(state.get(), buffer.data(), got);
    digest.size += got;
  }
  if (std::ferror(file.get())) return Errno("cannot read", path);
  digest.xxh3 = ToHex(XXH3_128bits_digest(state.get()));
  return digest;
}

absl::StatusOr<std::string> ReadSmallFile(const std::string& path, size_t max_bytes) {
  const File file(std::fopen(path.c_str(), "rb"));
  if (file == nullptr) return Errno("cannot open", path);
  std::string contents(max_bytes + 1, '\0');
  contents.resize(std::fread(contents.data(), 1, contents.size(), file.get()));
  if (std::ferror(file.get())) return Errno("cannot read", path);
  if (contents.size() > max_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat(path, " is larger than the ", max_bytes, " bytes allowed"));
  }
  return contents;
}

absl::Status SyncPath(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Errno("cannot open", path);
  const int synced = ::fsync(fd);
  const int error = errno;
  ::close(fd);
  if (synced != 0) return absl::ErrnoToStatus(error, absl::StrCat("cannot sync ", path));
  return absl::OkStatus();
}

absl::Status WriteFileAtomically(const std::string& path, std::string_view contents) {
  // Two writers of one path must not share the temporary file.
  const std::string temporary = absl::StrCat(path, ".", ::getpid(), ".tmp");
  {
    File file(std::fopen(temporary.c_str(), "wb"));
    if (file == nullptr) return Errno("cannot create", temporary);
    if (std::fwrite(contents.data(), 1, contents.size(), file.get()) != contents.size() ||
        std::fclose(file.release()) != 0) {
      absl::Status status = Errno("cannot write", temporary);
      ::unlink(temporary.c_str());
      return status;
    }
  }
  absl::Status status = SyncPath(temporary);
  if (status.ok() && std::rename(temporary.c_str(), path.c_str()) != 0) {
    status = Errno("cannot move into place", path);
  }
  if (!status.ok()) {
    ::unlink(temporary.c_str());
    return status;
  }
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return SyncPath(folder.empty() ? "." : folder);
}

}  // namespace strata::draft
