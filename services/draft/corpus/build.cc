#include "services/draft/corpus/build.h"

#include <algorithm>
#include <deque>
#include <filesystem>
#include <limits>
#include <memory>
#include <span>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/tokenizer/tokenizer.h"
#include "services/draft/corpus/snapshot_format.h"

namespace strata::draft {
namespace {

// Text that is counted as a whole. A change makes the leftovers of older builds unfit; see JobOf.
constexpr size_t kPartBytes = 256 << 10;

// The same for model tiers, which hold tokens.
constexpr size_t kPartTokens = 64 << 10;

constexpr size_t kMiB = 1 << 20;

// What a build needs beside the windows. Once: code, tokenizer, decompressor, the index of runs.
constexpr size_t kProcessBytes = 96 * kMiB;
// For each thread. While it counts: parts of the input in the queue, and one as text, as tokens and
// as windows, however small its share is. Then, without windows: buffers of up to 256 runs, an SST
// file of each order with its index and filter, the trie's open contexts. And what the allocator
// keeps for it.
constexpr size_t kThreadBytes = 64 * kMiB;
// Smaller shares would give runs without end.
constexpr size_t kLeastWindowBytes = 1 * kMiB;

// Bytes for the windows of all threads, so that the process stays within the limit.
size_t WindowBytes(const BuilderOptions& options) {
  return options.memory_bytes - kProcessBytes - static_cast<size_t>(options.threads) * kThreadBytes;
}

absl::Status CheckMemory(const BuilderOptions& options) {
  const size_t least = LeastBuildMemory(options.threads);
  if (options.memory_bytes >= least) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "memory: ", options.memory_bytes / kMiB, " MiB; with threads = ", options.threads,
      " at least ", least / kMiB, " are needed (with one, ", LeastBuildMemory(1) / kMiB, ")"));
}

// Consecutive pieces of one file: text, or segments of a model tier.
struct Batch {
  InputPart part;
  uint64_t documents = 0;
  std::vector<std::string> pieces;
  std::vector<ModelSegment> segments;
};

// N-grams that end at a key of the segment are counted with what follows them; those before end in
// another segment.
TextPiece PieceOf(const ModelSegment& segment) {
  const size_t end = std::min<size_t>(segment.tokens.size(), size_t{segment.end_key} + 1);
  return {std::span(segment.tokens).first(end), size_t{segment.first_key} + 1};
}

// Tokenizes, counts and sorts batches on several threads, each with a share of the memory. Their
// order is lost, and does not matter: a snapshot holds only counts.
class CountingPool {
 public:
  CountingPool(const Tokenizer& tokenizer, SnapshotBuilder& builder, const BuilderOptions& options)
      : tokenizer_(tokenizer), max_queued_(2 * static_cast<size_t>(options.threads)) {
    for (int i = 0; i < options.threads; ++i) {
      std::unique_ptr<WindowSpiller> spiller =
          builder.NewSpiller(WindowBytes(options) / static_cast<size_t>(options.threads));
      threads_.emplace_back([this, spiller = std::move(spiller)] { Work(*spiller); });
    }
  }
  CountingPool(const CountingPool&) = delete;
  CountingPool& operator=(const CountingPool&) = delete;
  ~CountingPool() { Stop(absl::CancelledError()).IgnoreError(); }

  // Waits while the queue is full. Returns the first error of any batch so far.
  absl::Status Push(Batch batch) {
    absl::MutexLock lock(&mutex_);
    const auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return queue_.size() < max_queued_ || !status_.ok();
    };
    mutex_.Await(absl::Condition(&ready));
    if (status_.ok()) queue_.push_back(std::move(batch));
    return status_;
  }

  // Waits until all that was pushed is in runs; no Push after it. With an error, stops at once but
  // keeps what was counted so far.
  absl::Status Stop(const absl::Status& reason) {
    {
      absl::MutexLock lock(&mutex_);
      closed_ = true;
      if (!threads_.empty()) status_.Update(reason);
    }
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    absl::MutexLock lock(&mutex_);
    return status_;
  }

 private:
  void Work(WindowSpiller& spiller) {
    Batch batch;
    std::vector<std::vector<TokenId>> tokens;
    std::vector<TextPiece> pieces;
    absl::Status status;
    while (status.ok() && Pop(batch)) {
      tokens.clear();
      pieces.clear();
      for (const std::string& piece : batch.pieces) {
        tokens.push_back(tokenizer_.Encode(piece, false));
      }
      for (const std::vector<TokenId>& text : tokens) pieces.push_back({text});
      for (const ModelSegment& segment : batch.segments) pieces.push_back(PieceOf(segment));
      status = spiller.Add(pieces, batch.documents, &batch.part);
    }
    if (status.ok()) status = spiller.Flush();
    absl::MutexLock lock(&mutex_);
    status_.Update(status);
  }

  bool Pop(Batch& batch) {
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
  const size_t max_queued_;
  absl::Mutex mutex_;
  std::deque<Batch> queue_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

absl::Status CheckCancelled(const BuildRequest& request) {
  if (request.cancel != nullptr && request.cancel->load(std::memory_order_relaxed)) {
    return absl::CancelledError(
        "the build was interrupted; the same command "
        "goes on with it, --fresh starts anew");
  }
  return absl::OkStatus();
}

// Cuts one file into parts, the same each time, and pushes those that no run holds yet.
absl::Status ReadFile(const BuildRequest& request, uint64_t number, const InputFile& file,
                      const Staging& staging, CountingPool& pool,
                      absl::FunctionRef<void(uint64_t)> progress) {
  Batch batch;
  batch.part.file = number;
  size_t bytes = 0;
  ReadCounts skipped, told;
  const auto push = [&](bool last) {
    batch.part.last = last;
    batch.part.skipped_lines = skipped.skipped_lines - told.skipped_lines;
    batch.part.skipped_binary = skipped.skipped_binary_files > 0;
    told = skipped;
    Batch full = std::move(batch);
    batch = {};
    batch.part = {number, full.part.part + 1};
    bytes = 0;
    return staging.HasPart(number, full.part.part) ? absl::OkStatus() : pool.Push(std::move(full));
  };
  const auto add = [&](std::string text, bool continues) {
    absl::Status status = CheckCancelled(request);
    if (!status.ok()) return status;
    // Full ones go when more comes, so that the last one is known when it goes.
    if (bytes >= kPartBytes) status = push(false);
    bytes += text.size();
    batch.documents += continues ? 0 : 1;
    batch.pieces.push_back(std::move(text));
    return status;
  };
  absl::Status status = ReadDocuments(file, request.read, add, progress, skipped);
  return status.ok() ? push(true) : status;
}

absl::Status ReadAll(const BuildRequest& request, const std::vector<InputFile>& files,
                     const Staging& staging, CountingPool& pool) {
  uint64_t total = 0, done = 0;
  for (const InputFile& file : files) total += file.bytes;
  for (size_t number = 0; number < files.size(); ++number) {
    const InputFile& file = files[number];
    const auto progress = [&](uint64_t bytes) {
      request.progress("reading", static_cast<double>(done + bytes) /
                                      static_cast<double>(std::max<uint64_t>(total, 1)));
    };
    if (!staging.HasFile(number)) {
      absl::Status status = ReadFile(request, number, file, staging, pool, progress);
      if (!status.ok()) return status;
    }
    done += file.bytes;
  }
  return absl::OkStatus();
}

// As ReadFile, of a model tier.
absl::Status ReadTier(const BuildRequest& request, uint64_t number, const InputFile& file,
                      const Tokenizer& tokenizer, const Staging& staging, CountingPool& pool,
                      TierCounts& counts) {
  Batch batch;
  batch.part.file = number;
  size_t tokens = 0;
  const auto push = [&](bool last) {
    batch.part.last = last;
    batch.documents = batch.segments.size();
    Batch full = std::exchange(batch, {});
    batch.part = {number, full.part.part + 1};
    tokens = 0;
    return staging.HasPart(number, full.part.part) ? absl::OkStatus() : pool.Push(std::move(full));
  };
  const auto add = [&](ModelSegment segment) {
    absl::Status status = CheckCancelled(request);
    if (status.ok() && tokens >= kPartTokens) status = push(false);
    tokens += segment.tokens.size();
    batch.segments.push_back(std::move(segment));
    return status;
  };
  absl::Status status = ReadTierFile(file, request.tiers, tokenizer.fingerprint(),
                                     tokenizer.vocab_size(), add, request.warn, counts);
  return status.ok() ? push(true) : status;
}

// `first` is the number of the first of them.
absl::Status ReadTiers(const BuildRequest& request, uint64_t first,
                       const std::vector<InputFile>& tiers, const Tokenizer& tokenizer,
                       const Staging& staging, CountingPool& pool, TierCounts& counts) {
  for (size_t i = 0; i < tiers.size(); ++i) {
    request.progress("reading model tiers",
                     static_cast<double>(i) / static_cast<double>(tiers.size()));
    if (staging.HasFile(first + i)) continue;
    absl::Status status = ReadTier(request, first + i, tiers[i], tokenizer, staging, pool, counts);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

// All that determines the runs of a build and the use that is made of them. Files are the same if
// path, size and time of change are.
std::string JobOf(const BuildRequest& request, const std::string& fingerprint,
                  const std::vector<InputFile>& files, const std::vector<InputFile>& tiers) {
  const CountOptions& count = request.builder.count;
  std::string job = absl::StrCat("build ", kFormatVersion, " ", kPartBytes, " ", fingerprint, " ",
                                 count.max_order, " ", count.top, " ", count.prune_count, " ",
                                 count.prune_continuations, " ", count.shard, " ",
                                 request.read.skip_invalid_lines, " ", request.read.max_piece_bytes,
                                 " ", request.read.max_line_bytes, " ", request.read.field, "\n");
  const auto add = [&job](const char* what, const InputFile& file) {
    std::error_code error;
    const auto changed = std::filesystem::last_write_time(file.path, error);
    absl::StrAppend(&job, what, file.bytes, " ", changed.time_since_epoch().count(), " ",
                    file.named, " ", file.path, "\n");
  };
  for (const InputFile& file : files) add("", file);
  for (const InputFile& file : tiers) add("tier ", file);
  if (request.tiers.all_tenants) absl::StrAppend(&job, "all tenants\n");
  // Escaped: a name may be any bytes.
  for (const std::string& tenant : request.tiers.tenants) {
    absl::StrAppend(&job, "tenant ", absl::CHexEscape(tenant), "\n");
  }
  return job;
}

}  // namespace

size_t LeastBuildMemory(int threads) {
  return kProcessBytes +
         static_cast<size_t>(std::max(threads, 1)) * (kThreadBytes + kLeastWindowBytes);
}

int MostBuildThreads(size_t memory_bytes) {
  const size_t left = memory_bytes - std::min(memory_bytes, kProcessBytes);
  return static_cast<int>(
      std::min<size_t>(left / (kThreadBytes + kLeastWindowBytes), std::numeric_limits<int>::max()));
}

absl::StatusOr<BuildReport> BuildFromFiles(const BuildRequest& request) {
  if (absl::Status status = CheckTierSelection(request.tiers); !status.ok()) return status;
  if (absl::Status status = CheckBuildThreads(request.builder.threads); !status.ok()) return status;
  if (absl::Status status = CheckMemory(request.builder); !status.ok()) return status;
  if (request.inputs.empty() && request.tiers.inputs.empty()) {
    return absl::InvalidArgumentError("no input was named");
  }
  auto files = ListInputs(request.inputs);
  if (!files.ok()) return files.status();
  auto tiers = ListTierFiles(request.tiers.inputs);
  if (!tiers.ok()) return tiers.status();
  if (files->empty() && tiers->empty()) {
    return absl::InvalidArgumentError("the folders named hold no files");
  }
  auto tokenizer = Tokenizer::Load(request.tokenizer_dir);
  if (!tokenizer.ok()) return tokenizer.status();
  BuilderOptions options = request.builder;
  options.job = JobOf(request, (*tokenizer)->fingerprint(), *files, *tiers);
  auto builder = SnapshotBuilder::Create(request.root, (*tokenizer)->fingerprint(),
                                         (*tokenizer)->vocab_size(), options);
  if (!builder.ok()) return builder.status();

  BuildReport report;
  report.files = files->size();
  report.resumed_runs = static_cast<int>((*builder)->staging().resumed_runs());
  const auto failed = [&](absl::Status status) {
    if (absl::IsCancelled(status)) (*builder)->KeepUnfinished();
    return status;
  };
  if (!(*builder)->whole()) {
    CountingPool pool(**tokenizer, **builder, options);
    absl::Status status = ReadAll(request, *files, (*builder)->staging(), pool);
    if (status.ok()) {
      status = ReadTiers(request, files->size(), *tiers, **tokenizer, (*builder)->staging(), pool,
                         report.tiers);
    }
    status = pool.Stop(status);
    if (!status.ok()) return failed(status);
  }
  auto manifest = (*builder)->Finish([&](double share) { request.progress("counting", share); },
                                     [&] { return CheckCancelled(request); });
  if (!manifest.ok()) return failed(manifest.status());
  report.path = (*builder)->path();
  report.manifest = *std::move(manifest);
  report.runs = (*builder)->runs();
  for (const InputPart& part : (*builder)->counted().parts) {
    report.skipped.skipped_lines += part.skipped_lines;
    report.skipped.skipped_binary_files += part.skipped_binary ? 1 : 0;
  }
  return report;
}

}  // namespace strata::draft
