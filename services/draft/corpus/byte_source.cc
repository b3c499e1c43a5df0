#include "services/draft/corpus/byte_source.h"

#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace strata::draft {
namespace {

constexpr size_t kInputBytes = 256 << 10;
// What an .xz or .zst header may ask for; `xz -9` needs 65 MiB, `zstd --long` 128.
constexpr uint64_t kMaxDecoderBytes = 512 << 20;
constexpr int kMaxZstdWindowLog = 27;

// The file's own bytes.
class RawFile {
 public:
  RawFile(std::string path, FILE* file) : path_(std::move(path)), file_(file) {
    std::setvbuf(file_, nullptr, _IONBF, 0);
  }
  RawFile(const RawFile&) = delete;
  RawFile& operator=(const RawFile&) = delete;
  ~RawFile() { std::fclose(file_); }

  absl::StatusOr<size_t> Read(std::span<char> out) {
    const size_t got = std::fread(out.data(), 1, out.size(), file_);
    if (got == 0 && std::ferror(file_)) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot read ", path_));
    }
    bytes_read_ += got;
    return got;
  }
  uint64_t bytes_read() const { return bytes_read_; }
  const std::string& path() const { return path_; }

 private:
  const std::string path_;
  FILE* const file_;
  uint64_t bytes_read_ = 0;
};

class PlainSource final : public ByteSource {
 public:
  PlainSource(std::string path, FILE* file) : file_(std::move(path), file) {}
  absl::StatusOr<size_t> Read(std::span<char> out) override { return file_.Read(out); }
  uint64_t file_bytes_read() const override { return file_.bytes_read(); }

 private:
  RawFile file_;
};

// The loop that all decoders share: input is refilled when it is used up, until a
// step gives output or the data ends.
class DecodingSource : public ByteSource {
 public:
  DecodingSource(std::string path, FILE* file)
      : file_(std::move(path), file), input_(kInputBytes) {}

  absl::StatusOr<size_t> Read(std::span<char> out) override {
    while (!ended_) {
      if (next_ == end_ && !at_eof_) {
        auto got = file_.Read(input_);
        if (!got.ok()) return got.status();
        next_ = 0;
        end_ = *got;
        at_eof_ = *got == 0;
      }
      size_t consumed = 0, produced = 0;
      const std::span<const char> in(input_.data() + next_, end_ - next_);
      const Step step = Decode(in, at_eof_, out, consumed, produced);
      next_ += consumed;
      if (step == Step::kDamaged) return Damaged("is damaged");
      ended_ = step == Step::kEnd;
      // A decoder that neither reads nor writes never will.
      if (!ended_ && !in.empty() && consumed == 0 && produced == 0) return Damaged("is damaged");
      if (produced > 0) return produced;
      if (at_eof_ && !ended_) return Damaged("ends too early");
    }
    return size_t{0};
  }
  uint64_t file_bytes_read() const override { return file_.bytes_read(); }

 protected:
  enum class Step { kMore, kEnd, kDamaged };
  // Decodes from `in` to `out` and says how much of each was used. `last`: the file
  // has no more than `in`. kEnd only then, and only where the data may end.
  virtual Step Decode(std::span<const char> in, bool last, std::span<char> out, size_t& consumed,
                      size_t& produced) = 0;

 private:
  absl::Status Damaged(const char* what) const {
    return absl::DataLossError(absl::StrCat(file_.path(), ": the compressed data ", what));
  }

  RawFile file_;
  std::vector<char> input_;
  size_t next_ = 0, end_ = 0;
  bool at_eof_ = false;
  bool ended_ = false;
};

class GzipSource final : public DecodingSource {
 public:
  GzipSource(std::string path, FILE* file) : DecodingSource(std::move(path), file) {
    ready_ = inflateInit2(&stream_, 16 + MAX_WBITS) == Z_OK;
  }
  ~GzipSource() override {
    if (ready_) inflateEnd(&stream_);
  }

 private:
  Step Decode(std::span<const char> in, bool last, std::span<char> out, size_t& consumed,
              size_t& produced) override {
    if (!ready_) return Step::kDamaged;
    if (member_ended_) {
      if (in.empty()) return last ? Step::kEnd : Step::kMore;
      if (inflateReset(&stream_) != Z_OK) return Step::kDamaged;
      member_ended_ = false;
    }
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));
    stream_.avail_in = static_cast<uInt>(in.size());
    stream_.next_out = reinterpret_cast<Bytef*>(out.data());
    stream_.avail_out = static_cast<uInt>(std::min<size_t>(out.size(), 1 << 30));
    const uInt room = stream_.avail_out;
    const int result = inflate(&stream_, Z_NO_FLUSH);
    consumed = in.size() - stream_.avail_in;
    produced = room - stream_.avail_out;
    member_ended_ = result == Z_STREAM_END;
    // Z_BUF_ERROR: no input at the moment.
    const bool fine = result == Z_OK || result == Z_STREAM_END || result == Z_BUF_ERROR;
    return fine ? Step::kMore : Step::kDamaged;
  }

  z_stream stream_{};
  bool ready_;
  bool member_ended_ = false;
};

class XzSource final : public DecodingSource {
 public:
  XzSource(std::string path, FILE* file) : DecodingSource(std::move(path), file) {
    ready_ = lzma_stream_decoder(&stream_, kMaxDecoderBytes, LZMA_CONCATENATED) == LZMA_OK;
  }
  ~XzSource() override { lzma_end(&stream_); }

 private:
  Step Decode(std::span<const char> in, bool last, std::span<char> out, size_t& consumed,
              size_t& produced) override {
    if (!ready_) return Step::kDamaged;
    stream_.next_in = reinterpret_cast<const uint8_t*>(in.data());
    stream_.avail_in = in.size();
    stream_.next_out = reinterpret_cast<uint8_t*>(out.data());
    stream_.avail_out = out.size();
    const lzma_ret result = lzma_code(&stream_, last ? LZMA_FINISH : LZMA_RUN);
    consumed = in.size() - stream_.avail_in;
    produced = out.size() - stream_.avail_out;
    if (result == LZMA_STREAM_END) return Step::kEnd;
    // LZMA_BUF_ERROR: no input at the moment, or none any more.
    return result == LZMA_OK || result == LZMA_BUF_ERROR ? Step::kMore : Step::kDamaged;
  }

  lzma_stream stream_ = LZMA_STREAM_INIT;
  bool ready_;
};

class ZstdSource final : public DecodingSource {
 public:
  ZstdSource(std::string path, FILE* file)
      : DecodingSource(std::move(path), file), stream_(ZSTD_createDStream()) {
    ZSTD_DCtx_setParameter(stream_, ZSTD_d_windowLogMax, kMaxZstdWindowLog);
  }
  ~ZstdSource() override { ZSTD_freeDStream(stream_); }

 private:
  Step Decode(std::span<const char> in, bool last, std::span<char> out, size_t& consumed,
              size_t& produced) override {
    ZSTD_inBuffer input{in.data(), in.size(), 0};
    ZSTD_outBuffer output{out.data(), out.size(), 0};
    if (last && in.empty() && frame_ended_) return Step::kEnd;
    const size_t result = ZSTD_decompressStream(stream_, &output, &input);
    consumed = input.pos;
    produced = output.pos;
    if (ZSTD_isError(result)) return Step::kDamaged;
    if (consumed > 0 || produced > 0) frame_ended_ = result == 0;
    return Step::kMore;
  }

  ZSTD_DStream* const stream_;
  bool frame_ended_ = false;
};

}  // namespace

Compression CompressionOf(std::string_view path, std::string_view& stem) {
  stem = path;
  const auto strip = [&](std::string_view suffix) {
    if (!path.ends_with(suffix)) return false;
    stem.remove_suffix(suffix.size());
    return true;
  };
  if (strip(".gz")) return Compression::kGzip;
  if (strip(".xz")) return Compression::kXz;
  if (strip(".zst")) return Compression::kZstd;
  return Compression::kNone;
}

absl::StatusOr<std::unique_ptr<ByteSource>> OpenByteSource(const std::string& path) {
  FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  std::string_view stem;
  std::unique_ptr<ByteSource> source;
  switch (CompressionOf(path, stem)) {
    case Compression::kNone:
      source = std::make_unique<PlainSource>(path, file);
      break;
    case Compression::kGzip:
      source = std::make_unique<GzipSource>(path, file);
      break;
    case Compression::kXz:
      source = std::make_unique<XzSource>(path, file);
      break;
    case Compression::kZstd:
      source = std::make_unique<ZstdSource>(path, file);
      break;
  }
  return source;
}

}  // namespace strata::draft
