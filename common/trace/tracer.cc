#include "common/trace/tracer.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <exception>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/steady_clock.h"

namespace strata::trace {
namespace {

// Spans of one line: readers take a line as a whole (the Collector up to 1 MiB by default; a span
// takes some 500 bytes).
constexpr size_t kLineSpans = 512;
// The writer is woken for so many at once, else after flush_interval.
constexpr size_t kWakeSpans = 256;
constexpr absl::Duration kComplaintInterval = absl::Minutes(1);

std::string InstanceId() {
  char host[256] = "host";
  gethostname(host, sizeof(host) - 1);
  return absl::StrCat(host, ":", getpid());
}

int Open(const std::string& path) {
  int fd;
  do {
    fd = open(path.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
  } while (fd < 0 && errno == EINTR);
  return fd;
}

absl::Status ErrnoStatus(const char* what, const std::string& path) {
  return absl::ErrnoToStatus(errno, absl::StrCat(what, " the trace file '", path, "'"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tracer>> Tracer::Start(const TracerOptions& options,
                                                      Resource resource) {
  if (options.file.empty()) return nullptr;
  const int fd = Open(options.file);
  if (fd < 0) return ErrnoStatus("cannot open", options.file);
  struct stat found;
  if (fstat(fd, &found) != 0) {
    const absl::Status status = ErrnoStatus("cannot examine", options.file);
    close(fd);
    return status;
  }
  if (resource.service_instance_id.empty()) resource.service_instance_id = InstanceId();
  return std::unique_ptr<Tracer>(
      new Tracer(options, std::move(resource), fd, static_cast<uint64_t>(found.st_size)));
}

Tracer::Tracer(const TracerOptions& options, Resource resource, int fd, uint64_t size)
    : options_(options),
      resource_(std::move(resource)),
      to_wall_clock_(absl::Now() - SteadyNow()),
      fd_(fd),
      size_(size) {
  char last = '\n';
  if (size_ > 0 && pread(fd_, &last, 1, static_cast<off_t>(size_) - 1) == 1) torn_ = last != '\n';
  writer_ = std::thread([this] { Run(); });
}

Tracer::~Tracer() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  writer_.join();
  if (fd_ >= 0) close(fd_);
}

void Tracer::Record(Span span) noexcept {
  span.start += to_wall_clock_;
  span.end += to_wall_clock_;
  try {
    absl::MutexLock lock(&mutex_);
    if (queue_.size() < options_.max_queued) {
      queue_.push_back(std::move(span));
      return;
    }
  } catch (const std::exception&) {
    // No memory. No span is worth a request.
  }
  counters_.dropped.Add(1);
}

void Tracer::Run() {
  std::vector<Span> spans;
  for (bool stopping = false; !stopping;) {
    {
      absl::MutexLock lock(&mutex_);
      const auto many = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        return stopping_ || queue_.size() >= std::min(kWakeSpans, options_.max_queued);
      };
      mutex_.AwaitWithTimeout(absl::Condition(&many), options_.flush_interval);
      stopping = stopping_;
      // The lock is held for this and for no write.
      spans.swap(queue_);
    }
    Write(spans);
    spans.clear();
  }
}

void Tracer::Write(const std::vector<Span>& spans) {
  for (size_t begin = 0; begin < spans.size(); begin += kLineSpans) {
    const auto part = std::span(spans).subspan(begin, std::min(kLineSpans, spans.size() - begin));
    absl::Status status;
    try {
      status = Append(ToOtlpJson(resource_, part));
    } catch (const std::exception& error) {
      status = absl::ResourceExhaustedError(error.what());
    }
    if (status.ok()) {
      counters_.written.Add(part.size());
      continue;
    }
    counters_.dropped.Add(part.size());
    counters_.failures.Add(1);
    const absl::Time now = SteadyNow();
    if (now < next_complaint_) continue;
    next_complaint_ = now + kComplaintInterval;
    spdlog::warn("spans are lost: {}", std::string(status.message()));
  }
}

absl::Status Tracer::Append(const std::string& line) {
  if (size_ > 0 && size_ + line.size() + 1 > options_.max_file_bytes) Rotate();
  if (fd_ < 0) {
    fd_ = Open(options_.file);
    if (fd_ < 0) return ErrnoStatus("cannot open", options_.file);
  }
  std::string text = torn_ ? absl::StrCat("\n", line, "\n") : absl::StrCat(line, "\n");
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t written = write(fd_, text.data() + done, text.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      absl::Status status = ErrnoStatus("cannot write", options_.file);
      torn_ |= done > 0;
      return status;
    }
    done += static_cast<size_t>(written);
    size_ += static_cast<uint64_t>(written);
  }
  torn_ = false;
  return absl::OkStatus();
}

void Tracer::Rotate() {
  // If it cannot be renamed, it is begun anew all the same: the bound holds.
  const bool renamed = std::rename(options_.file.c_str(), (options_.file + ".1").c_str()) == 0;
  if (renamed) {
    close(fd_);
    fd_ = -1;
  } else if (ftruncate(fd_, 0) != 0) {
    return;
  }
  size_ = 0;
  torn_ = false;
}

}  // namespace strata::trace
