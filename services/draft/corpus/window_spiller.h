#ifndef STRATA_SERVICES_DRAFT_CORPUS_WINDOW_SPILLER_H_
#define STRATA_SERVICES_DRAFT_CORPUS_WINDOW_SPILLER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "services/draft/corpus/run_file.h"
#include "services/draft/corpus/staging.h"
#include "services/draft/corpus/window_sorter.h"

namespace strata::draft {

// A stretch of text. Windows are those of its tokens from `begin` on, at least 1; the ones before
// were counted elsewhere, and are contexts alone here.
struct TextPiece {
  std::span<const TokenId> tokens;
  size_t begin = 1;
};

// Counts the windows of documents in bounded memory: sorts them and writes them as runs. Each
// thread of a build has one of its own. Not thread-safe.
class WindowSpiller {
 public:
  // `memory_bytes` bounds the windows, except that one part of the input always fits in. `staging`
  // outlives the spiller.
  WindowSpiller(int max_order, int64_t vocab_size, size_t memory_bytes, Staging* staging);

  // Counts pieces of text, of which `documents` begin a document; contexts do not reach from one
  // piece into the next. All of them come into the same run, which then lists `part` if it is not
  // null. INVALID_ARGUMENT for a token out of [0, vocab_size); else errors of the disk.
  absl::Status Add(std::span<const TextPiece> pieces, uint64_t documents, const InputPart* part);
  absl::Status Add(std::span<const std::vector<TokenId>> pieces, uint64_t documents,
                   const InputPart* part) {
    std::vector<TextPiece> whole;
    whole.reserve(pieces.size());
    for (const std::vector<TokenId>& piece : pieces) whole.push_back({piece});
    return Add(whole, documents, part);
  }
  // Writes what is left. Add may go on after it.
  absl::Status Flush();

 private:
  const int64_t vocab_size_;
  const size_t capacity_;
  Staging* const staging_;
  WindowSorter sorter_;
  RunContents contents_;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_WINDOW_SPILLER_H_
