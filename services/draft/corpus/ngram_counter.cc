#include "services/draft/corpus/ngram_counter.h"

#include <unistd.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "services/draft/corpus/run_file.h"

namespace strata::draft {
namespace {

constexpr size_t kMergeBytesPerRun = 64 << 10;
// Beyond it the disk would rather seek than read.
constexpr size_t kMaxFanIn = 256;

}  // namespace

NgramCounter::NgramCounter(const CountOptions& options, int64_t vocab_size, size_t memory_bytes,
                           std::string spill_dir)
    : options_(options),
      vocab_size_(vocab_size),
      capacity_(std::clamp<size_t>(memory_bytes / WindowSorter::kBytesPerToken, 1,
                                   WindowSorter::kMaxTokens / 2)),
      fan_in_(std::clamp<size_t>(memory_bytes / kMergeBytesPerRun, 2, kMaxFanIn)),
      spill_dir_(std::move(spill_dir)),
      sorter_(vocab_size, options.window(), capacity_) {}

absl::Status NgramCounter::Add(std::span<const TokenId> document) {
  for (TokenId token : document) {
    if (token < 0 || token >= vocab_size_) {
      return absl::InvalidArgumentError(
          absl::StrCat("token ", token, " is not in [0, vocab_size = ", vocab_size_, ")"));
    }
  }
  if (document.size() >= WindowSorter::kMaxTokens / 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("a document of ", document.size(), " tokens; at most ",
                     WindowSorter::kMaxTokens / 2 - 1, " are allowed"));
  }
  if (sorter_.size() > 0 && sorter_.size() + document.size() + 1 > capacity_) {
    absl::Status status = Spill();
    if (!status.ok()) return status;
  }
  sorter_.Append(document);
  token_count_ += document.size();
  return absl::OkStatus();
}

std::string NgramCounter::NewRunPath() { return absl::StrCat(spill_dir_, "/run-", next_run_++); }

absl::Status NgramCounter::Spill() {
  const std::string path = NewRunPath();
  auto run = RunWriter::Create(path);
  if (!run.ok()) return run.status();
  absl::Status status = sorter_.Drain(
      [&](std::span<const TokenId> window, uint64_t count) { return (*run)->Add(window, count); });
  if (!status.ok()) return status;
  runs_.push_back(path);
  return (*run)->Finish();
}

absl::Status NgramCounter::MergeToFanIn() {
  while (runs_.size() > fan_in_) {
    const std::vector<std::string> merged(runs_.begin(), runs_.begin() + fan_in_);
    const std::string path = NewRunPath();
    auto run = RunWriter::Create(path);
    if (!run.ok()) return run.status();
    absl::Status status = MergeRuns(merged, [&](std::span<const TokenId> window, uint64_t count) {
      return (*run)->Add(window, count);
    });
    if (status.ok()) status = (*run)->Finish();
    if (!status.ok()) return status;
    for (const std::string& done : merged) ::unlink(done.c_str());
    runs_.erase(runs_.begin(), runs_.begin() + fan_in_);
    // Behind the others, so that runs of like size are merged with each other.
    runs_.push_back(path);
  }
  return absl::OkStatus();
}

absl::Status NgramCounter::Finish(ContextTrie::Sink sink,
                                  const std::function<void(double)>& progress) {
  ContextTrie trie(options_, std::move(sink));
  uint64_t done = 0, windows = 0;
  const auto add = [&](std::span<const TokenId> window, uint64_t count) {
    done += count;
    if (++windows % 65536 == 0) {
      progress(static_cast<double>(done) / static_cast<double>(token_count_));
    }
    return trie.Add(window, count);
  };
  absl::Status status;
  if (runs_.empty()) {
    status = sorter_.Drain(add);
  } else {
    if (sorter_.size() > 0) status = Spill();
    // The merge needs the memory that the windows had.
    sorter_ = WindowSorter(vocab_size_, options_.window(), 0);
    if (status.ok()) status = MergeToFanIn();
    if (status.ok()) status = MergeRuns(runs_, add);
    for (const std::string& run : runs_) ::unlink(run.c_str());
    runs_.clear();
  }
  if (status.ok()) status = trie.Finish();
  return status;
}

}  // namespace strata::draft
