#include "services/draft/corpus/row_writer.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include "absl/synchronization/mutex.h"
#include "services/draft/corpus/context_trie.h"
#include "services/draft/corpus/snapshot_format.h"
#include "services/draft/corpus/sst_output.h"
#include "services/draft/corpus/varint.h"

namespace strata::draft {
namespace {

// Enough to keep many cores busy, and few enough for a small number of files.
constexpr uint64_t kMaxParts = 64;
constexpr uint64_t kCheckEvery = 16384;

struct Part {
  TokenId first = 0, last = 0;  // [first, last)
  uint64_t windows = 0;
};

std::vector<Part> CutParts(const WindowCounts& counts, uint64_t part_windows) {
  uint64_t total = 0;
  for (const auto& [token, windows] : counts) total += windows;
  const uint64_t wanted = std::max({part_windows, total / kMaxParts, uint64_t{1}});
  std::vector<Part> parts;
  for (const auto& [token, windows] : counts) {
    if (parts.empty() || parts.back().windows >= wanted) parts.push_back({token, token, 0});
    parts.back().last = token + 1;
    parts.back().windows += windows;
  }
  return parts;
}

// Groups windows by context into the rows of a shard.
class ShardRows {
 public:
  explicit ShardRows(SstOutput& output) : output_(output) {}

  absl::Status Add(const Window& window) {
    if (!std::ranges::equal(context_, window.context)) {
      absl::Status status = Finish();
      if (!status.ok()) return status;
      context_.assign(window.context.begin(), window.context.end());
    }
    next_.push_back({window.next, window.count});
    windows_[context_[0]] += window.count;
    return absl::OkStatus();
  }
  absl::Status Finish() {
    if (next_.empty()) return absl::OkStatus();
    EncodeShardValue(next_, value_);
    next_.clear();
    ++contexts_[context_.size()];
    return output_.Put(kShardWindows, EncodeShardKey(context_), value_);
  }
  // The index that a merge cuts its parts by.
  absl::Status WriteCounts() {
    for (const auto& [token, windows] : windows_) {
      value_.clear();
      AppendVarint(windows, value_);
      absl::Status status = output_.Put(kShardCounts, EncodeShardCountKey(token), value_);
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }
  uint64_t contexts(int order) const { return contexts_[order]; }

 private:
  SstOutput& output_;
  std::vector<TokenId> context_;
  std::vector<RankedToken> next_;
  std::string value_;
  WindowCounts windows_;
  std::array<uint64_t, kMaxContextOrder + 1> contexts_{};
};

class RowWriting {
 public:
  RowWriting(const WindowSource& source, const WindowCounts& counts,
             const RowWriterOptions& options)
      : source_(source), options_(options), parts_(CutParts(counts, options.part_windows)) {
    for (const Part& part : parts_) total_ += part.windows;
    result_.contexts.resize(static_cast<size_t>(options.count.max_order));
  }

  absl::StatusOr<WrittenRows> Run() {
    const size_t threads = std::min<size_t>(static_cast<size_t>(options_.threads), parts_.size());
    std::vector<std::thread> pool;
    for (size_t i = 1; i < threads; ++i) pool.emplace_back([this] { Work(); });
    Work();
    for (std::thread& thread : pool) thread.join();
    absl::MutexLock lock(&mutex_);
    if (!status_.ok()) return status_;
    if (result_.files.empty()) {
      return absl::FailedPreconditionError("no context is left: every document has a single token");
    }
    return std::move(result_);
  }

 private:
  void Work() {
    for (size_t part; (part = next_part_.fetch_add(1)) < parts_.size();) {
      {
        absl::MutexLock lock(&mutex_);
        if (!status_.ok()) return;
      }
      absl::Status status = options_.count.shard ? WriteShard(part) : WriteTrie(part);
      absl::MutexLock lock(&mutex_);
      status_.Update(status);
    }
  }

  absl::Status WriteTrie(size_t part) {
    SstOutput output(options_.dir, static_cast<int>(part), options_.sst_bytes);
    ContextTrie trie(options_.count, [&](std::span<const TokenId> context, std::string_view row) {
      char key[kMaxKeyBytes];
      return output.Put(static_cast<int>(context.size()), {key, EncodeKey(context, key)}, row);
    });
    absl::Status status = Feed(part, [&](const Window& window) { return trie.Add(window); });
    if (status.ok()) status = trie.Finish();
    if (status.ok()) status = output.Finish();
    if (status.ok()) Collect(output, [&](int order) { return trie.contexts(order); });
    return status;
  }

  absl::Status WriteShard(size_t part) {
    SstOutput output(options_.dir, static_cast<int>(part), options_.sst_bytes);
    ShardRows rows(output);
    absl::Status status = Feed(part, [&](const Window& window) { return rows.Add(window); });
    if (status.ok()) status = rows.Finish();
    if (status.ok()) status = rows.WriteCounts();
    if (status.ok()) status = output.Finish();
    if (status.ok()) Collect(output, [&](int order) { return rows.contexts(order); });
    return status;
  }

  absl::Status Feed(size_t part, WindowSink sink) {
    auto cursors = source_(parts_[part].first, parts_[part].last);
    if (!cursors.ok()) return cursors.status();
    uint64_t windows = 0, fed = 0;
    absl::Status status = MergeWindows(*cursors, [&](const Window& window) {
      fed += window.count;
      if (++windows % kCheckEvery == 0) {
        absl::Status checked = Report(std::exchange(fed, 0));
        if (!checked.ok()) return checked;
      }
      return sink(window);
    });
    return status.ok() ? Report(fed) : status;
  }

  absl::Status Report(uint64_t windows) {
    absl::MutexLock lock(&mutex_);
    done_ += windows;
    options_.progress(static_cast<double>(done_) /
                      static_cast<double>(std::max<uint64_t>(total_, 1)));
    return options_.check();
  }

  template <typename Contexts>
  void Collect(const SstOutput& output, Contexts contexts) {
    absl::MutexLock lock(&mutex_);
    result_.files.insert(result_.files.end(), output.files().begin(), output.files().end());
    for (int order = 1; order <= options_.count.max_order; ++order) {
      result_.contexts[static_cast<size_t>(order - 1)] += contexts(order);
    }
  }

  const WindowSource& source_;
  const RowWriterOptions& options_;
  const std::vector<Part> parts_;
  uint64_t total_ = 0;
  std::atomic<size_t> next_part_{0};
  absl::Mutex mutex_;
  uint64_t done_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  WrittenRows result_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<WrittenRows> WriteRows(const WindowSource& source, const WindowCounts& counts,
                                      const RowWriterOptions& options) {
  return RowWriting(source, counts, options).Run();
}

}  // namespace strata::draft
