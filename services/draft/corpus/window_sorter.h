#ifndef STRATA_SERVICES_DRAFT_CORPUS_WINDOW_SORTER_H_
#define STRATA_SERVICES_DRAFT_CORPUS_WINDOW_SORTER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "common/base/draft_tree.h"

namespace strata::draft {

// Receives windows (1 to kMaxWindow tokens, ascending by token, a prefix before
// what it begins) with how often each occurred. The span is borrowed for the call.
using WindowSink = absl::FunctionRef<absl::Status(std::span<const TokenId> window, uint64_t count)>;

// Sorts the windows of documents in memory. A window starts at every token of a
// document and takes `window` tokens, fewer at the document's end.
// Not thread-safe.
class WindowSorter {
 public:
  // Tokens must be in [0, vocab_size). `capacity` is the number of tokens that are
  // expected; kBytesPerToken for each are in use at the peak, during Drain.
  WindowSorter(int64_t vocab_size, int window, size_t capacity);

  void Append(std::span<const TokenId> document);
  // Tokens appended since the last Drain, and one for each document.
  size_t size() const { return text_.size(); }

  // Hands over each distinct window once, ascending, and forgets them all.
  // Returns the sink's first error.
  absl::Status Drain(WindowSink sink);

  static constexpr size_t kBytesPerToken = 4 + 16;
  // Positions are 32 bits wide.
  static constexpr size_t kMaxTokens = size_t{1} << 31;

 private:
  struct Entry {
    uint64_t key;
    uint32_t position;
  };

  // Packs the symbols [depth, depth + per_key_) of the window at `position`.
  uint64_t Key(uint32_t position, int depth) const;
  // Sorts entries which agree in their first `depth` symbols and whose keys hold
  // the next ones.
  void Sort(std::span<Entry> entries, int depth);
  int LengthAt(uint32_t position) const;

  int window_;
  int bits_;
  int per_key_;
  // Token + 1; 0 after each document.
  std::vector<uint32_t> text_;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_WINDOW_SORTER_H_
