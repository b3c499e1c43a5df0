#include "services/draft/corpus/window_spiller.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace strata::draft {

WindowSpiller::WindowSpiller(int max_order, int64_t vocab_size, size_t memory_bytes,
                             Staging* staging)
    : vocab_size_(vocab_size),
      capacity_(std::clamp<size_t>(memory_bytes / WindowSorter::kBytesPerToken, 1,
                                   WindowSorter::kMaxTokens / 2)),
      staging_(staging),
      sorter_(vocab_size, max_order, capacity_) {}

absl::Status WindowSpiller::Add(std::span<const TextPiece> pieces, uint64_t documents,
                                const InputPart* part) {
  size_t size = 0, tokens = 0;
  for (const TextPiece& piece : pieces) {
    size += piece.tokens.size() + 1;
    // A text's first token has no window, and belongs to it all the same.
    const size_t elsewhere = piece.begin > 1 ? piece.begin : 0;
    tokens += piece.tokens.size() - std::min(piece.tokens.size(), elsewhere);
    for (TokenId token : piece.tokens) {
      if (token < 0 || token >= vocab_size_) {
        return absl::InvalidArgumentError(
            absl::StrCat("token ", token, " is not in [0, vocab_size = ", vocab_size_, ")"));
      }
    }
  }
  if (size >= WindowSorter::kMaxTokens / 2) {
    return absl::InvalidArgumentError(absl::StrCat("a piece of ", size, " tokens; less than ",
                                                   WindowSorter::kMaxTokens / 2, " are allowed"));
  }
  if (sorter_.size() > 0 && sorter_.size() + size > capacity_) {
    absl::Status status = Flush();
    if (!status.ok()) return status;
  }
  for (const TextPiece& piece : pieces) sorter_.Append(piece.tokens, piece.begin);
  contents_.documents += documents;
  contents_.tokens += tokens;
  if (part != nullptr) contents_.parts.push_back(*part);
  return absl::OkStatus();
}

absl::Status WindowSpiller::Flush() {
  if (contents_.tokens == 0 && contents_.documents == 0 && contents_.parts.empty()) {
    return absl::OkStatus();
  }
  const std::string path = staging_->NewRunPath();
  auto run = RunWriter::Create(path);
  if (!run.ok()) return run.status();
  absl::Status status = sorter_.Drain([&](const Window& window) { return (*run)->Add(window); });
  if (status.ok()) status = (*run)->Finish(std::exchange(contents_, {}));
  if (status.ok()) status = staging_->Adopt(path);
  return status;
}

}  // namespace strata::draft
