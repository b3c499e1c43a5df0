#include "services/draft/corpus/sst_session.h"

#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <cstdint>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "services/draft/corpus/file_util.h"
#include "services/draft/corpus/varint.h"

namespace strata::draft {
namespace {

// RocksDB's block-based table, format version 1 to 5: the footer is one byte of
// checksum type, the varint handles of the metaindex and the index padded to 40
// bytes, 4 bytes of version and 8 of magic number.
constexpr size_t kFooterBytes = 53;
constexpr size_t kMagicBytes = 8;
constexpr std::string_view kMagic("\xf7\xcf\xf4\x85\xb7\x41\xe2\x88", kMagicBytes);
constexpr char kXxHash64 = 3;
// Behind each block: its compression type, then the checksum of both.
constexpr size_t kTrailerBytes = 5;
constexpr size_t kMaxBlockBytes = 1 << 20;
constexpr std::string_view kProperties = "rocksdb.properties";
constexpr std::string_view kSessionId = "rocksdb.creating.session.identity";
// Digits of an id in base 36, as RocksDB writes it.
constexpr size_t kIdBytes = 20;

struct Handle {
  uint64_t offset = 0;
  uint64_t size = 0;
};

class SstFile {
 public:
  explicit SstFile(const std::string& path)
      : path_(path), fd_(::open(path.c_str(), O_RDWR | O_CLOEXEC)) {}
  SstFile(const SstFile&) = delete;
  SstFile& operator=(const SstFile&) = delete;
  ~SstFile() {
    if (fd_ >= 0) ::close(fd_);
  }

  absl::Status Read(uint64_t offset, size_t size, std::string& out) const {
    out.resize(size);
    const ssize_t got = ::pread(fd_, out.data(), size, static_cast<off_t>(offset));
    if (got < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot read ", path_));
    if (static_cast<size_t>(got) != size) return Unexpected("it is too short");
    return absl::OkStatus();
  }

  absl::Status Write(uint64_t offset, std::string_view bytes) const {
    const ssize_t put = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (put == static_cast<ssize_t>(bytes.size())) return absl::OkStatus();
    return absl::ErrnoToStatus(put < 0 ? errno : ENOSPC, absl::StrCat("cannot write ", path_));
  }

  absl::StatusOr<uint64_t> Size() const {
    const off_t size = ::lseek(fd_, 0, SEEK_END);
    if (size < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot read ", path_));
    return static_cast<uint64_t>(size);
  }

  absl::Status Unexpected(const char* what) const {
    return absl::DataLossError(
        absl::StrCat(path_, " is not the SST file that was written: ", what));
  }

  bool is_open() const { return fd_ >= 0; }

 private:
  const std::string& path_;
  const int fd_;
};

// Finds `name` among the entries of a block (prefix-coded keys, restart points at
// the end). False if it is not there or the block is not well-formed.
bool FindEntry(std::string_view block, std::string_view name, std::string_view& value) {
  if (block.size() < 4) return false;
  uint32_t restarts = 0;
  for (int i = 3; i >= 0; --i) {
    restarts = restarts << 8 | static_cast<uint8_t>(block[block.size() - 4 + i]);
  }
  if (restarts >= block.size() / 4) return false;
  block.remove_suffix(4 * (size_t{restarts} + 1));
  std::string key;
  while (!block.empty()) {
    VarintReader in(block);
    uint64_t shared, rest, size;
    if (!in.Read(shared) || !in.Read(rest) || !in.Read(size) || shared > key.size()) return false;
    block.remove_prefix(in.position());
    if (rest > block.size() || size > block.size() - rest) return false;
    key.resize(shared);
    key.append(block.substr(0, rest));
    value = block.substr(rest, size);
    // Keys of the metaindex end as they are; those of other blocks are not looked for.
    if (key == name) return true;
    block.remove_prefix(rest + size);
  }
  return false;
}

bool ReadHandle(std::string_view bytes, Handle& handle) {
  VarintReader in(bytes);
  return in.Read(handle.offset) && in.Read(handle.size) && handle.size <= kMaxBlockBytes;
}

// Puts `id` into the properties block at `handle` and writes the block's checksum anew.
absl::Status WriteId(const SstFile& file, const Handle& handle, size_t id_at, std::string_view id) {
  std::string block;
  absl::Status status = file.Read(handle.offset, handle.size + 1, block);
  if (!status.ok()) return status;
  block.replace(id_at, kIdBytes, id);
  const uint64_t hash = XXH64(block.data(), block.size(), 0);
  for (int shift = 0; shift < 32; shift += 8) {
    block.push_back(static_cast<char>(hash >> shift & 0xff));
  }
  return file.Write(handle.offset, block);
}

std::string IdFromDigest(std::string_view hex_digest) {
  std::string id;
  for (std::string_view half : {hex_digest.substr(0, 16), hex_digest.substr(16)}) {
    uint64_t number = 0;
    for (char c : half)
      number = number << 4 | static_cast<uint64_t>(c <= '9' ? c - '0' : c - 'a' + 10);
    for (size_t i = 0; i < kIdBytes / 2; ++i, number /= 36) {
      id.push_back("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[number % 36]);
    }
  }
  return id;
}

}  // namespace

absl::Status RewriteSessionId(const std::string& path) {
  const SstFile file(path);
  if (!file.is_open()) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  auto size = file.Size();
  if (!size.ok()) return size.status();
  if (*size < kFooterBytes) return file.Unexpected("it is too short");
  std::string footer, block;
  absl::Status status = file.Read(*size - kFooterBytes, kFooterBytes, footer);
  if (!status.ok()) return status;
  if (!footer.ends_with(kMagic)) return file.Unexpected("another kind of table");
  if (footer[0] != kXxHash64) return file.Unexpected("another kind of checksum");

  Handle handle;
  if (!ReadHandle(std::string_view(footer).substr(1), handle)) return file.Unexpected("footer");
  status = file.Read(handle.offset, handle.size, block);
  if (!status.ok()) return status;
  std::string_view value;
  if (!FindEntry(block, kProperties, value) || !ReadHandle(value, handle)) {
    return file.Unexpected("no properties");
  }
  status = file.Read(handle.offset, handle.size + kTrailerBytes, block);
  if (!status.ok()) return status;
  if (block[handle.size] != 0) return file.Unexpected("compressed properties");
  if (!FindEntry(std::string_view(block).substr(0, handle.size), kSessionId, value) ||
      value.size() != kIdBytes) {
    return file.Unexpected("no session id");
  }
  const size_t id_at = static_cast<size_t>(value.data() - block.data());

  status = WriteId(file, handle, id_at, std::string(kIdBytes, '0'));
  if (!status.ok()) return status;
  auto digest = DigestFile(path);
  if (!digest.ok()) return digest.status();
  return WriteId(file, handle, id_at, IdFromDigest(digest->xxh3));
}

}  // namespace strata::draft
