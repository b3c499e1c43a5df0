#include "services/draft/corpus/build.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/tokenizer/tokenizer.h"

namespace strata::draft {
namespace {

constexpr int kMaxThreads = 256;

struct Piece {
  std::string text;
  bool continues;
};

// Tokenizes pieces on several threads and hands them to the builder, which takes one at a
// time. Their order is lost, and does not matter: a snapshot holds only counts.
class TokenizingPool {
 public:
  TokenizingPool(const Tokenizer& tokenizer, SnapshotBuilder& builder, int threads)
      : tokenizer_(tokenizer), builder_(builder), max_queued_(2 * static_cast<size_t>(threads)) {
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
  }
  TokenizingPool(const TokenizingPool&) = delete;
  TokenizingPool& operator=(const TokenizingPool&) = delete;
  ~TokenizingPool() { Finish().IgnoreError(); }

  // Waits while the queue is full. Returns the first error of any piece so far.
  absl::Status Push(std::vector<Piece> batch) {
    absl::MutexLock lock(&mutex_);
    const auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return queue_.size() < max_queued_ || !status_.ok();
    };
    mutex_.Await(absl::Condition(&ready));
    if (status_.ok()) queue_.push_back(std::move(batch));
    return status_;
  }

  // Waits until all is counted; no Push after it.
  absl::Status Finish() {
    {
      absl::MutexLock lock(&mutex_);
      closed_ = true;
    }
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    absl::MutexLock lock(&mutex_);
    return status_;
  }

 private:
  void Work() {
    std::vector<Piece> batch;
    while (Pop(batch)) {
      std::vector<std::vector<TokenId>> tokens;
      for (const Piece& piece : batch) tokens.push_back(tokenizer_.Encode(piece.text, false));
      absl::MutexLock lock(&builder_mutex_);
      for (size_t i = 0; i < batch.size(); ++i) {
        absl::Status status = builder_.AddDocument(tokens[i], batch[i].continues);
        if (status.ok()) continue;
        absl::MutexLock status_lock(&mutex_);
        status_.Update(status);
        queue_.clear();
        break;
      }
    }
  }

  bool Pop(std::vector<Piece>& batch) {
    absl::MutexLock lock(&mutex_);
    const auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return !queue_.empty() || closed_ || !status_.ok();
    };
    mutex_.Await(absl::Condition(&ready));
    if (queue_.empty() || !status_.ok()) return false;
    batch = std::move(queue_.front());
    queue_.pop_front();
    return true;
  }

  const Tokenizer& tokenizer_;
  absl::Mutex builder_mutex_ ABSL_ACQUIRED_BEFORE(mutex_);
  SnapshotBuilder& builder_ ABSL_GUARDED_BY(builder_mutex_);
  const size_t max_queued_;
  absl::Mutex mutex_;
  std::deque<std::vector<Piece>> queue_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

// Small documents travel together, so that the queue costs nothing.
class Batcher {
 public:
  Batcher(TokenizingPool& pool, size_t bytes) : pool_(pool), max_bytes_(bytes) {}

  absl::Status Add(std::string text, bool continues) {
    bytes_ += text.size();
    batch_.push_back({std::move(text), continues});
    return bytes_ >= max_bytes_ ? Flush() : absl::OkStatus();
  }
  absl::Status Flush() {
    bytes_ = 0;
    return batch_.empty() ? absl::OkStatus() : pool_.Push(std::exchange(batch_, {}));
  }

 private:
  TokenizingPool& pool_;
  const size_t max_bytes_;
  std::vector<Piece> batch_;
  size_t bytes_ = 0;
};

absl::Status CheckCancelled(const BuildRequest& request) {
  if (request.cancel != nullptr && request.cancel->load(std::memory_order_relaxed)) {
    return absl::CancelledError("the build was interrupted; nothing of it is left");
  }
  return absl::OkStatus();
}

absl::Status ReadAll(const BuildRequest& request, const std::vector<InputFile>& files,
                     TokenizingPool& pool, ReadCounts& skipped) {
  uint64_t total = 0, done = 0;
  for (const InputFile& file : files) total += file.bytes;
  Batcher batcher(pool, 256 << 10);
  const auto add = [&](std::string text, bool continues) {
    absl::Status status = CheckCancelled(request);
    return status.ok() ? batcher.Add(std::move(text), continues) : status;
  };
  for (const InputFile& file : files) {
    const auto progress = [&](uint64_t bytes) {
      request.progress("reading", static_cast<double>(done + bytes) /
                                      static_cast<double>(std::max<uint64_t>(total, 1)));
    };
    absl::Status status = ReadDocuments(file, request.read, add, progress, skipped);
    if (!status.ok()) return status;
    done += file.bytes;
  }
  return batcher.Flush();
}

}  // namespace

absl::StatusOr<BuildReport> BuildFromFiles(const BuildRequest& request) {
  if (request.threads < 1 || request.threads > kMaxThreads) {
    return absl::InvalidArgumentError(
        absl::StrCat("threads: ", request.threads, " is not in 1 to ", kMaxThreads));
  }
  if (request.inputs.empty()) return absl::InvalidArgumentError("no input was named");
  auto files = ListInputs(request.inputs);
  if (!files.ok()) return files.status();
  if (files->empty()) return absl::InvalidArgumentError("the folders named hold no files");
  auto tokenizer = Tokenizer::Load(request.tokenizer_dir);
  if (!tokenizer.ok()) return tokenizer.status();
  auto builder = SnapshotBuilder::Create(request.root, (*tokenizer)->fingerprint(),
                                         (*tokenizer)->vocab_size(), request.builder);
  if (!builder.ok()) return builder.status();

  BuildReport report;
  report.files = files->size();
  {
    TokenizingPool pool(**tokenizer, **builder, request.threads);
    absl::Status status = ReadAll(request, *files, pool, report.skipped);
    if (status.ok()) status = pool.Finish();
    if (!status.ok()) return status;
  }
  auto manifest = (*builder)->Finish([&](double share) { request.progress("counting", share); },
                                     [&] { return CheckCancelled(request); });
  if (!manifest.ok()) return manifest.status();
  report.path = (*builder)->path();
  report.manifest = *std::move(manifest);
  report.spilled_runs = (*builder)->spilled_runs();
  return report;
}

}  // namespace strata::draft
