#ifndef STRATA_SERVICES_DRAFT_CORPUS_WINDOW_SORTER_H_
#define STRATA_SERVICES_DRAFT_CORPUS_WINDOW_SORTER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "services/draft/corpus/windows.h"

namespace strata::draft {

// Sorts the windows of documents in memory: one for every token of a document but the first ones.
// Not thread-safe.
class WindowSorter {
 public:
  // Tokens must be in [0, vocab_size); contexts have up to `max_order` tokens. `capacity` is the
  // number of tokens that are expected; kBytesPerToken for each are in use at the peak, in Drain.
  WindowSorter(int64_t vocab_size, int max_order, size_t capacity);

  // `begin`, at least 1: the first token that has a window. Those before are contexts alone.
  void Append(std::span<const TokenId> document, size_t begin = 1);
  // Tokens appended since the last Drain, and one for each document.
  size_t size() const { return text_.size(); }

  // Hands over each distinct window once, ascending, and forgets them all. Returns the sink's first
  // error.
  absl::Status Drain(WindowSink sink);

  static constexpr size_t kBytesPerToken = 4 + 16;
  // Positions are 32 bits wide.
  static constexpr size_t kMaxTokens = size_t{1} << 31;

 private:
  struct Entry {
    uint64_t key;
    uint32_t position;  // of the next token
  };

  // Symbol `i` of the window: the context's tokens + 1, most recent first, 0 where it has ended; at
  // last the next token.
  uint64_t Symbol(uint32_t position, int i, bool& ended) const;
  // Packs the symbols [depth, depth + per_key_) of the window at `position`.
  uint64_t Key(uint32_t position, int depth) const;
  // Sorts entries which agree in their first `depth` symbols and whose keys hold the next ones.
  void Sort(std::span<Entry> entries, int depth);
  // Length of the context.
  int LengthAt(uint32_t position) const;

  int max_order_;
  int bits_;
  int per_key_;
  // A 0 before each document; its tokens + 1.
  std::vector<uint32_t> text_;
  // Stretches of text_, ascending, whose tokens have no windows though one comes before them.
  std::vector<std::pair<uint32_t, uint32_t>> skipped_;
  std::vector<Entry> entries_;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_WINDOW_SORTER_H_
