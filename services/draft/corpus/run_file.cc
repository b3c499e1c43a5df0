#include "services/draft/corpus/run_file.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "services/draft/corpus/snapshot_format.h"
#include "services/draft/corpus/varint.h"

namespace strata::draft {
namespace {

constexpr size_t kBufferBytes = 64 << 10;
// In the place of a shared length: nothing follows.
constexpr uint64_t kEnd = 255;

class RunReader {
 public:
  static absl::StatusOr<std::unique_ptr<RunReader>> Open(const std::string& path) {
    FILE* file = std::fopen(path.c_str(), "rb");
    if (file == nullptr) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
    std::setvbuf(file, nullptr, _IOFBF, kBufferBytes);
    return std::unique_ptr<RunReader>(new RunReader(path, file));
  }
  RunReader(const RunReader&) = delete;
  RunReader& operator=(const RunReader&) = delete;
  ~RunReader() { std::fclose(file_); }

  // Moves to the next window, or to the end.
  absl::Status Next() {
    uint64_t shared, rest;
    if (!Read(shared)) return Truncated();
    if (shared == kEnd) {
      done_ = true;
      return absl::OkStatus();
    }
    if (!Read(rest) || shared > window_.size() || shared + rest > kMaxWindow) return Truncated();
    window_.resize(shared);
    for (uint64_t i = 0; i < rest; ++i) {
      uint64_t token;
      if (!Read(token) || token >= static_cast<uint64_t>(kMaxVocab)) return Truncated();
      window_.push_back(static_cast<TokenId>(token));
    }
    if (!Read(count_)) return Truncated();
    return absl::OkStatus();
  }

  bool done() const { return done_; }
  const std::vector<TokenId>& window() const { return window_; }
  uint64_t count() const { return count_; }

 private:
  RunReader(std::string path, FILE* file) : path_(std::move(path)), file_(file) {}

  absl::Status Truncated() const {
    return absl::DataLossError(absl::StrCat("temporary file ", path_, " is damaged or truncated"));
  }

  bool Read(uint64_t& value) {
    value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const int byte = getc_unlocked(file_);
      if (byte == EOF) return false;
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }

  const std::string path_;
  FILE* const file_;
  std::vector<TokenId> window_;
  uint64_t count_ = 0;
  bool done_ = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<RunWriter>> RunWriter::Create(const std::string& path) {
  FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) return absl::ErrnoToStatus(errno, absl::StrCat("cannot create ", path));
  return std::unique_ptr<RunWriter>(new RunWriter(path, file));
}

RunWriter::RunWriter(std::string path, FILE* file) : path_(std::move(path)), file_(file) {}

RunWriter::~RunWriter() {
  if (file_ != nullptr) std::fclose(file_);
}

absl::Status RunWriter::Add(std::span<const TokenId> window, uint64_t count) {
  const auto differ = std::mismatch(last_.begin(), last_.end(), window.begin(), window.end());
  const size_t shared = differ.first - last_.begin();
  AppendVarint(shared, buffer_);
  AppendVarint(window.size() - shared, buffer_);
  for (TokenId token : window.subspan(shared)) {
    AppendVarint(static_cast<uint64_t>(token), buffer_);
  }
  AppendVarint(count, buffer_);
  last_.assign(window.begin(), window.end());
  return buffer_.size() >= kBufferBytes ? Flush() : absl::OkStatus();
}

absl::Status RunWriter::Flush() {
  if (std::fwrite(buffer_.data(), 1, buffer_.size(), file_) != buffer_.size()) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path_));
  }
  buffer_.clear();
  return absl::OkStatus();
}

absl::Status RunWriter::Finish() {
  AppendVarint(kEnd, buffer_);
  absl::Status status = Flush();
  const int closed = std::fclose(std::exchange(file_, nullptr));
  if (status.ok() && closed != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path_));
  }
  return status;
}

absl::Status MergeRuns(std::span<const std::string> paths, WindowSink sink) {
  std::vector<std::unique_ptr<RunReader>> readers;
  // The readers that have a window, the lowest window at the front.
  std::vector<RunReader*> heap;
  const auto later = [](const RunReader* a, const RunReader* b) {
    return b->window() < a->window();
  };
  for (const std::string& path : paths) {
    auto reader = RunReader::Open(path);
    if (!reader.ok()) return reader.status();
    readers.push_back(*std::move(reader));
    absl::Status status = readers.back()->Next();
    if (!status.ok()) return status;
    if (!readers.back()->done()) heap.push_back(readers.back().get());
  }
  std::make_heap(heap.begin(), heap.end(), later);
  std::vector<TokenId> window;
  while (!heap.empty()) {
    window = heap.front()->window();
    uint64_t count = 0;
    while (!heap.empty() && heap.front()->window() == window) {
      std::pop_heap(heap.begin(), heap.end(), later);
      RunReader* reader = heap.back();
      count += reader->count();
      absl::Status status = reader->Next();
      if (!status.ok()) return status;
      if (reader->done()) {
        heap.pop_back();
      } else {
        std::push_heap(heap.begin(), heap.end(), later);
      }
    }
    absl::Status status = sink(window, count);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace strata::draft
