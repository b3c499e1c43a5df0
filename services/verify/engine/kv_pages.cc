#include "services/verify/engine/kv_pages.h"

namespace strata::engine {

KvPages::KvPages(int64_t pages) : holders_(pages), free_count_(pages) {
  // Last in, first out: the page that was freed last is the one most likely in the CPU's caches.
  free_list_.reserve(pages);
  for (int64_t page = pages - 1; page >= 0; --page) {
    free_list_.push_back(static_cast<int32_t>(page));
  }
}

bool KvPages::Allocate(int64_t count, std::vector<int32_t>& pages) {
  if (count > static_cast<int64_t>(free_list_.size())) return false;
  for (int64_t i = 0; i < count; ++i) {
    pages.push_back(free_list_.back());
    free_list_.pop_back();
    holders_[pages.back()].sequences = 1;
  }
  free_count_ = static_cast<int64_t>(free_list_.size());
  return true;
}

void KvPages::Use(int32_t page) {
  if (holders_[page].sequences++ == 0) --kept_count_;
}

void KvPages::Release(std::span<const int32_t> pages) {
  for (auto page = pages.rbegin(); page != pages.rend(); ++page) {
    Holders& holders = holders_[*page];
    if (--holders.sequences > 0) continue;
    if (holders.handles > 0) {
      ++kept_count_;
    } else {
      Free(*page);
    }
  }
}

void KvPages::Drop(int32_t page) {
  Holders& holders = holders_[page];
  if (--holders.handles > 0 || holders.sequences > 0) return;
  --kept_count_;
  Free(page);
}

void KvPages::Free(int32_t page) {
  free_list_.push_back(page);
  free_count_ = static_cast<int64_t>(free_list_.size());
}

}  // namespace strata::engine
