#include "services/draft/corpus/run_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "services/draft/corpus/file_util.h"
#include "services/draft/corpus/snapshot_format.h"
#include "services/draft/corpus/varint.h"

namespace strata::draft {
namespace {

constexpr size_t kBufferBytes = 256 << 10;
constexpr char kSuffix[] = ".tmp";
// The end of the file: offset and checksum of the index, then this.
constexpr std::string_view kMagic = "strarun3";
constexpr size_t kFooterBytes = 8 + 8 + kMagic.size();

void AppendFixed64(uint64_t value, std::string& out) {
  for (int shift = 0; shift < 64; shift += 8) out.push_back(static_cast<char>(value >> shift));
}

uint64_t Fixed64(std::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = 8; i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  return value;
}

absl::Status Damaged(const std::string& path) {
  return absl::DataLossError(absl::StrCat("temporary file ", path, " is damaged or truncated"));
}

std::string EncodeIndex(const std::vector<RunSection>& sections, const RunContents& contents) {
  std::string out;
  AppendVarint(sections.size(), out);
  for (const RunSection& section : sections) {
    AppendVarint(static_cast<uint64_t>(section.first), out);
    AppendVarint(section.offset, out);
    AppendVarint(section.windows, out);
    AppendVarint(section.checksum, out);
  }
  AppendVarint(contents.documents, out);
  AppendVarint(contents.tokens, out);
  AppendVarint(contents.replaces.size(), out);
  for (uint64_t run : contents.replaces) AppendVarint(run, out);
  AppendVarint(contents.parts.size(), out);
  for (const InputPart& part : contents.parts) {
    AppendVarint(part.file, out);
    AppendVarint(part.part, out);
    AppendVarint((part.last ? 1 : 0) | (part.skipped_binary ? 2 : 0), out);
    AppendVarint(part.skipped_lines, out);
  }
  return out;
}

bool DecodeIndex(std::string_view bytes, std::vector<RunSection>& sections, RunContents& contents) {
  VarintReader in(bytes);
  uint64_t size;
  if (!in.Read(size) || size > bytes.size()) return false;
  for (uint64_t i = 0; i < size; ++i) {
    RunSection& section = sections.emplace_back();
    uint64_t first;
    if (!in.Read(first) || first >= static_cast<uint64_t>(kMaxVocab)) return false;
    section.first = static_cast<TokenId>(first);
    if (!in.Read(section.offset) || !in.Read(section.windows) || !in.Read(section.checksum)) {
      return false;
    }
    if (i > 0 &&
        (section.first <= sections[i - 1].first || section.offset < sections[i - 1].offset)) {
      return false;
    }
  }
  if (!in.Read(contents.documents) || !in.Read(contents.tokens) || !in.Read(size) ||
      size > bytes.size()) {
    return false;
  }
  contents.replaces.resize(size);
  for (uint64_t& run : contents.replaces) {
    if (!in.Read(run)) return false;
  }
  if (!in.Read(size) || size > bytes.size()) return false;
  contents.parts.resize(size);
  for (InputPart& part : contents.parts) {
    uint64_t flags;
    if (!in.Read(part.file) || !in.Read(part.part) || !in.Read(flags) ||
        !in.Read(part.skipped_lines)) {
      return false;
    }
    part.last = (flags & 1) != 0;
    part.skipped_binary = (flags & 2) != 0;
  }
  return in.done();
}

}  // namespace

class SectionChecksum {
 public:
  SectionChecksum() { XXH3_64bits_reset(state_.get()); }
  void Add(const char* bytes, size_t size) { XXH3_64bits_update(state_.get(), bytes, size); }
  // Of what was added since the last call.
  uint64_t Take() {
    const uint64_t sum = XXH3_64bits_digest(state_.get());
    XXH3_64bits_reset(state_.get());
    return sum;
  }

 private:
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  const std::unique_ptr<XXH3_state_t, Free> state_{XXH3_createState()};
};

absl::StatusOr<std::unique_ptr<RunWriter>> RunWriter::Create(const std::string& path) {
  const std::string temporary = path + kSuffix;
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot create ", temporary));
  return std::unique_ptr<RunWriter>(new RunWriter(path, fd));
}

RunWriter::RunWriter(std::string path, int fd)
    : path_(std::move(path)), fd_(fd), checksum_(std::make_unique<SectionChecksum>()) {}

RunWriter::~RunWriter() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink((path_ + kSuffix).c_str());
}

absl::Status RunWriter::Add(const Window& window) {
  if (sections_.empty() || sections_.back().first != window.context[0]) {
    SumUp();
    if (!sections_.empty()) sections_.back().checksum = checksum_->Take();
    sections_.push_back({.first = window.context[0], .offset = flushed_ + buffer_.size()});
    last_.clear();
  }
  sections_.back().windows += window.count;
  const auto differ =
      std::mismatch(last_.begin(), last_.end(), window.context.begin(), window.context.end());
  const size_t shared = static_cast<size_t>(differ.first - last_.begin());
  AppendVarint(shared, buffer_);
  AppendVarint(window.context.size() - shared, buffer_);
  for (TokenId token : window.context.subspan(shared)) {
    AppendVarint(static_cast<uint64_t>(token), buffer_);
  }
  AppendVarint(static_cast<uint64_t>(window.next), buffer_);
  AppendVarint(window.count, buffer_);
  last_.assign(window.context.begin(), window.context.end());
  return buffer_.size() >= kBufferBytes ? Flush() : absl::OkStatus();
}

void RunWriter::SumUp() {
  checksum_->Add(buffer_.data() + unsummed_, buffer_.size() - unsummed_);
  unsummed_ = buffer_.size();
}

absl::Status RunWriter::Flush() {
  SumUp();
  std::string_view rest = buffer_;
  while (!rest.empty()) {
    const ssize_t put = ::write(fd_, rest.data(), rest.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path_));
    rest.remove_prefix(static_cast<size_t>(put));
  }
  flushed_ += buffer_.size();
  buffer_.clear();
  unsummed_ = 0;
  return absl::OkStatus();
}

absl::Status RunWriter::Finish(const RunContents& contents) {
  absl::Status status = Flush();
  if (!status.ok()) return status;
  if (!sections_.empty()) sections_.back().checksum = checksum_->Take();
  const uint64_t index_at = flushed_;
  buffer_ = EncodeIndex(sections_, contents);
  const uint64_t checksum = XXH3_64bits(buffer_.data(), buffer_.size());
  AppendFixed64(index_at, buffer_);
  AppendFixed64(checksum, buffer_);
  buffer_.append(kMagic);
  status = Flush();
  if (!status.ok()) return status;
  const std::string temporary = path_ + kSuffix;
  const bool synced = ::fsync(fd_) == 0;
  const bool closed = ::close(std::exchange(fd_, -1)) == 0;
  if (!synced || !closed || std::rename(temporary.c_str(), path_.c_str()) != 0) {
    status = absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path_));
    ::unlink(temporary.c_str());
  }
  return status;
}

absl::StatusOr<std::shared_ptr<const RunFile>> RunFile::Open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  std::shared_ptr<RunFile> run(new RunFile(path, fd));
  absl::Status status = run->ReadIndex();
  if (!status.ok()) return status;
  return run;
}

RunFile::~RunFile() { ::close(fd_); }

absl::Status RunFile::ReadIndex() {
  struct stat info;
  if (::fstat(fd_, &info) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot read ", path_));
  }
  const uint64_t size = static_cast<uint64_t>(info.st_size);
  if (size < kFooterBytes) return Damaged(path_);
  std::string footer(kFooterBytes, '\0');
  const auto read = [this](std::string& out, uint64_t at) {
    return ::pread(fd_, out.data(), out.size(), static_cast<off_t>(at)) ==
           static_cast<ssize_t>(out.size());
  };
  if (!read(footer, size - kFooterBytes) || !footer.ends_with(kMagic)) return Damaged(path_);
  data_end_ = Fixed64(footer);
  if (data_end_ > size - kFooterBytes) return Damaged(path_);
  std::string index(size - kFooterBytes - data_end_, '\0');
  if (!read(index, data_end_) ||
      XXH3_64bits(index.data(), index.size()) != Fixed64(std::string_view(footer).substr(8)) ||
      !DecodeIndex(index, sections_, contents_) ||
      (!sections_.empty() && sections_.back().offset > data_end_)) {
    return Damaged(path_);
  }
  return absl::OkStatus();
}

// Reads a range of a run's sections.
class RunCursor final : public WindowCursor {
 public:
  RunCursor(std::shared_ptr<const RunFile> run, size_t section, size_t end, size_t buffer_bytes)
      : run_(std::move(run)), section_(section), end_(end), buffer_(buffer_bytes) {
    if (section_ < end_) {
      offset_ = run_->sections_[section_].offset;
      range_end_ = end_ < run_->sections_.size() ? run_->sections_[end_].offset : run_->data_end_;
      section_end_ = SectionEnd();
    }
  }

  absl::Status Next() override {
    while (section_ < end_ && position() == section_end_) {
      SumUp();
      if (checksum_.Take() != run_->sections_[section_].checksum) return Damaged(run_->path());
      ++section_;
      window_.clear();
      if (section_ < end_) section_end_ = SectionEnd();
    }
    if (section_ >= end_) {
      done_ = true;
      return absl::OkStatus();
    }
    uint64_t shared, rest;
    if (!Read(shared) || !Read(rest) || shared > window_.size() ||
        rest > kMaxContextOrder - shared || shared + rest == 0) {
      return Damaged(run_->path());
    }
    window_.resize(shared);
    uint64_t token;
    for (uint64_t i = 0; i < rest; ++i) {
      if (!Read(token) || token >= static_cast<uint64_t>(kMaxVocab)) return Damaged(run_->path());
      window_.push_back(static_cast<TokenId>(token));
    }
    if (!Read(token) || token >= static_cast<uint64_t>(kMaxVocab) || !Read(count_) ||
        position() > section_end_) {
      return Damaged(run_->path());
    }
    next_ = static_cast<TokenId>(token);
    return absl::OkStatus();
  }
  bool done() const override { return done_; }
  Window window() const override { return {window_, next_, count_}; }

 private:
  uint64_t SectionEnd() const {
    return section_ + 1 < run_->sections_.size() ? run_->sections_[section_ + 1].offset
                                                 : run_->data_end_;
  }
  // Adds to the checksum what was read and was not added.
  void SumUp() {
    checksum_.Add(buffer_.data() + summed_, at_ - summed_);
    summed_ = at_;
  }
  // In the file, of the next byte.
  uint64_t position() const { return offset_ - (filled_ - at_); }

  bool Fill() {
    const size_t wanted = std::min<uint64_t>(buffer_.size(), range_end_ - offset_);
    if (wanted == 0) return false;
    SumUp();
    const ssize_t got = ::pread(run_->fd_, buffer_.data(), wanted, static_cast<off_t>(offset_));
    if (got <= 0) return false;
    at_ = summed_ = 0;
    filled_ = static_cast<size_t>(got);
    offset_ += filled_;
    return true;
  }

  bool Read(uint64_t& value) {
    value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (at_ == filled_ && !Fill()) return false;
      const uint8_t byte = static_cast<uint8_t>(buffer_[at_++]);
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }

  const std::shared_ptr<const RunFile> run_;
  size_t section_;
  const size_t end_;
  std::vector<char> buffer_;
  size_t at_ = 0, filled_ = 0;
  // Where in buffer_ begins what is not in checksum_ yet.
  size_t summed_ = 0;
  SectionChecksum checksum_;
  uint64_t offset_ = 0;  // of what the buffer is filled with next
  uint64_t range_end_ = 0, section_end_ = 0;
  std::vector<TokenId> window_;
  TokenId next_ = 0;
  uint64_t count_ = 0;
  bool done_ = false;
};

std::unique_ptr<WindowCursor> RunFile::Read(std::shared_ptr<const RunFile> run, TokenId first,
                                            TokenId last, size_t buffer_bytes) {
  const auto at = [&](TokenId token) {
    const auto found = std::lower_bound(
        run->sections_.begin(), run->sections_.end(), token,
        [](const RunSection& section, TokenId wanted) { return section.first < wanted; });
    return static_cast<size_t>(found - run->sections_.begin());
  };
  const size_t begin = at(first), end = at(last);
  return std::make_unique<RunCursor>(std::move(run), begin, end, buffer_bytes);
}

}  // namespace strata::draft
