#include "services/draft/corpus/window_sorter.h"

#include <algorithm>
#include <array>
#include <bit>

#include "services/draft/tiers/evidence.h"

namespace strata::draft {

WindowSorter::WindowSorter(int64_t vocab_size, int max_order, size_t capacity)
    : max_order_(max_order),
      bits_(static_cast<int>(std::bit_width(static_cast<uint64_t>(vocab_size)))),
      per_key_(64 / bits_) {
  text_.reserve(std::min(capacity, kMaxTokens));
}

void WindowSorter::Append(std::span<const TokenId> document, size_t begin) {
  // A document of one token has no window.
  if (document.size() <= begin) return;
  text_.push_back(0);
  if (begin > 1) {
    const auto first = static_cast<uint32_t>(text_.size());
    skipped_.emplace_back(first, first + static_cast<uint32_t>(begin));
  }
  for (TokenId token : document) text_.push_back(static_cast<uint32_t>(token) + 1);
}

uint64_t WindowSorter::Symbol(uint32_t position, int i, bool& ended) const {
  if (i == max_order_) return text_[position];
  if (i > max_order_) return 0;
  // Position 0 is the 0 before the first document, so that nothing before it is read.
  const uint64_t symbol = ended ? 0 : text_[position - 1 - static_cast<uint32_t>(i)];
  ended = symbol == 0;
  return symbol;
}

uint64_t WindowSorter::Key(uint32_t position, int depth) const {
  uint64_t key = 0;
  bool ended = depth > 0 && LengthAt(position) < depth;
  for (int i = 0; i < per_key_; ++i) key = key << bits_ | Symbol(position, depth + i, ended);
  return key;
}

void WindowSorter::Sort(std::span<Entry> entries, int depth) {
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.key < b.key; });
  const int next = depth + per_key_;
  if (next > max_order_) return;
  for (size_t begin = 0, end; begin < entries.size(); begin = end) {
    const uint64_t key = entries[begin].key;
    for (end = begin + 1; end < entries.size() && entries[end].key == key;) ++end;
    if (end - begin == 1) continue;
    const std::span<Entry> equal = entries.subspan(begin, end - begin);
    for (Entry& entry : equal) entry.key = Key(entry.position, next);
    Sort(equal, next);
  }
}

int WindowSorter::LengthAt(uint32_t position) const {
  int length = 0;
  while (length < max_order_ && text_[position - 1 - static_cast<uint32_t>(length)] != 0) ++length;
  return length;
}

absl::Status WindowSorter::Drain(WindowSink sink) {
  entries_.clear();
  entries_.reserve(text_.size());
  auto skipped = skipped_.begin();
  for (uint32_t p = 1; p < text_.size(); ++p) {
    while (skipped != skipped_.end() && skipped->second <= p) ++skipped;
    if (skipped != skipped_.end() && skipped->first <= p) continue;
    if (text_[p] != 0 && text_[p - 1] != 0) entries_.push_back({Key(p, 0), p});
  }
  Sort(entries_, 0);
  std::array<TokenId, kMaxContextOrder> tokens;
  for (size_t begin = 0, end; begin < entries_.size(); begin = end) {
    const uint32_t* const first = text_.data() + entries_[begin].position;
    const int length = LengthAt(entries_[begin].position);
    for (end = begin + 1; end < entries_.size(); ++end) {
      const uint32_t* const other = text_.data() + entries_[end].position;
      if (LengthAt(entries_[end].position) != length ||
          !std::equal(first - length, first + 1, other - length)) {
        break;
      }
    }
    for (int i = 0; i < length; ++i) tokens[i] = static_cast<TokenId>(*(first - 1 - i) - 1);
    absl::Status status = sink({{tokens.data(), static_cast<size_t>(length)},
                                static_cast<TokenId>(*first - 1),
                                end - begin});
    if (!status.ok()) return status;
  }
  text_.clear();
  skipped_.clear();
  return absl::OkStatus();
}

}  // namespace strata::draft
