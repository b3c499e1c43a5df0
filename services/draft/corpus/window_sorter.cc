#include "services/draft/corpus/window_sorter.h"

#include <algorithm>
#include <array>
#include <bit>

#include "services/draft/corpus/snapshot_format.h"

namespace strata::draft {

WindowSorter::WindowSorter(int64_t vocab_size, int window, size_t capacity)
    : window_(window),
      bits_(static_cast<int>(std::bit_width(static_cast<uint64_t>(vocab_size)))),
      per_key_(64 / bits_) {
  text_.reserve(std::min(capacity, kMaxTokens));
}

void WindowSorter::Append(std::span<const TokenId> document) {
  if (document.empty()) return;
  for (TokenId token : document) text_.push_back(static_cast<uint32_t>(token) + 1);
  text_.push_back(0);
}

uint64_t WindowSorter::Key(uint32_t position, int depth) const {
  uint64_t key = 0;
  const int symbols = std::min(per_key_, window_ - depth);
  bool ended = false;
  for (int i = 0; i < symbols; ++i) {
    const uint64_t symbol = ended ? 0 : text_[position + depth + i];
    ended = symbol == 0;
    key = key << bits_ | symbol;
  }
  return key;
}

void WindowSorter::Sort(std::span<Entry> entries, int depth) {
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.key < b.key; });
  const int next = depth + per_key_;
  if (next >= window_) return;
  const uint64_t last_symbol = (uint64_t{1} << bits_) - 1;
  for (size_t begin = 0, end; begin < entries.size(); begin = end) {
    const uint64_t key = entries[begin].key;
    for (end = begin + 1; end < entries.size() && entries[end].key == key;) ++end;
    // A window that has ended has nothing more to be sorted by.
    if (end - begin == 1 || (key & last_symbol) == 0) continue;
    const std::span<Entry> equal = entries.subspan(begin, end - begin);
    for (Entry& entry : equal) entry.key = Key(entry.position, next);
    Sort(equal, next);
  }
}

int WindowSorter::LengthAt(uint32_t position) const {
  int length = 0;
  while (length < window_ && text_[position + length] != 0) ++length;
  return length;
}

absl::Status WindowSorter::Drain(WindowSink sink) {
  std::vector<Entry> entries;
  entries.reserve(text_.size());
  for (uint32_t p = 0; p < text_.size(); ++p) {
    if (text_[p] != 0) entries.push_back({Key(p, 0), p});
  }
  Sort(entries, 0);
  std::array<TokenId, kMaxWindow> tokens;
  for (size_t begin = 0, end; begin < entries.size(); begin = end) {
    const auto first = text_.begin() + entries[begin].position;
    const int length = LengthAt(entries[begin].position);
    for (end = begin + 1; end < entries.size(); ++end) {
      const uint32_t other = entries[end].position;
      if (LengthAt(other) != length || !std::equal(first, first + length, text_.begin() + other)) {
        break;
      }
    }
    for (int i = 0; i < length; ++i) tokens[i] = static_cast<TokenId>(first[i] - 1);
    absl::Status status = sink({tokens.data(), static_cast<size_t>(length)}, end - begin);
    if (!status.ok()) return status;
  }
  text_.clear();
  return absl::OkStatus();
}

}  // namespace strata::draft
