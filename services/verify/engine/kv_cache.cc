#include "services/verify/engine/kv_cache.h"

#include <cstring>
#include <string>

namespace strata::engine {

Result<std::unique_ptr<KvCache>> KvCache::Create(int64_t pages, int64_t layers, int64_t kv_heads,
                                                 int64_t head_dim, int64_t element_size) {
  std::unique_ptr<KvCache> cache(new KvCache());
  cache->total_pages_ = pages;
  cache->layers_ = layers;
  cache->kv_heads_ = kv_heads;
  cache->head_dim_ = head_dim;
  cache->element_size_ = element_size;
  cache->half_block_ = head_dim * kPageTokens * element_size;
  const int64_t bytes = pages * layers * kv_heads * 2 * cache->half_block_;
  cache->base_.reset(static_cast<std::byte*>(std::calloc(bytes, 1)));
  if (cache->base_ == nullptr) {
    return Status(ErrorCode::kResourceExhausted,
                  "no memory for a KV cache of " + std::to_string(pages * kPageTokens) +
                      " tokens (" + std::to_string(bytes) + " bytes)");
  }
  cache->holders_.resize(pages);
  // Last in, first out: the page that was freed last is the one most likely in the CPU's caches.
  cache->free_list_.reserve(pages);
  for (int64_t page = pages - 1; page >= 0; --page) cache->free_list_.push_back(page);
  cache->free_count_ = pages;
  return cache;
}

bool KvCache::Allocate(int64_t count, std::vector<int32_t>& pages) {
  if (count > static_cast<int64_t>(free_list_.size())) return false;
  for (int64_t i = 0; i < count; ++i) {
    pages.push_back(free_list_.back());
    free_list_.pop_back();
    holders_[pages.back()].sequences = 1;
  }
  free_count_ = free_list_.size();
  return true;
}

void KvCache::Use(int32_t page) {
  if (holders_[page].sequences++ == 0) --kept_count_;
}

void KvCache::Release(std::span<const int32_t> pages) {
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

void KvCache::Drop(int32_t page) {
  Holders& holders = holders_[page];
  if (--holders.handles > 0 || holders.sequences > 0) return;
  --kept_count_;
  Free(page);
}

void KvCache::Free(int32_t page) {
  free_list_.push_back(page);
  free_count_ = free_list_.size();
}

void KvCache::CopyToken(int32_t from_page, int from_slot, int32_t to_page, int to_slot) {
  const int64_t row = head_dim_ * element_size_;
  for (int64_t layer = 0; layer < layers_; ++layer) {
    for (int64_t head = 0; head < kv_heads_; ++head) {
      const std::byte* from = Keys(layer, from_page, head) + from_slot * element_size_;
      std::byte* to = Keys(layer, to_page, head) + to_slot * element_size_;
      for (int64_t d = 0; d < head_dim_; ++d) {
        std::memcpy(to + d * kPageTokens * element_size_, from + d * kPageTokens * element_size_,
                    element_size_);
      }
      std::memcpy(Values(layer, to_page, head) + to_slot * row,
                  Values(layer, from_page, head) + from_slot * row, row);
    }
  }
}

}  // namespace strata::engine
