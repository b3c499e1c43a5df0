#ifndef STRATA_SERVICES_DRAFT_CORPUS_BYTE_SOURCE_H_
#define STRATA_SERVICES_DRAFT_CORPUS_BYTE_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace strata::draft {

enum class Compression { kNone, kGzip, kXz, kZstd };

// By the end of the name: .gz, .xz, .zst; without it in `stem`.
Compression CompressionOf(std::string_view path, std::string_view& stem);

// Decompressed bytes of a file, in order. Not thread-safe.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Fills the front of `out`, which is not empty, and returns how much; 0 only at
  // the end. DATA_LOSS (with the path) if compressed data is damaged or ends too early.
  virtual absl::StatusOr<size_t> Read(std::span<char> out) = 0;
  // Bytes read from the file itself so far.
  virtual uint64_t file_bytes_read() const = 0;
};

// Opens `path` as its name says. Files made of several compressed members, as
// concatenation and parallel compressors make them, are read to the end.
absl::StatusOr<std::unique_ptr<ByteSource>> OpenByteSource(const std::string& path);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_BYTE_SOURCE_H_
