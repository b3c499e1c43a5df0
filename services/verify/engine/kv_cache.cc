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
  if (cache->base_ == nullptr) return NoRoomForKvCache(pages, bytes);
  return cache;
}

void KvCache::CopyToken(const KvMove& move) {
  const int32_t from_page = move.from / kPageTokens, from_slot = move.from % kPageTokens;
  const int32_t to_page = move.to / kPageTokens, to_slot = move.to % kPageTokens;
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

Status NoRoomForKvCache(int64_t pages, int64_t bytes) {
  return Status(ErrorCode::kResourceExhausted, "no memory for a KV cache of " +
                                                   std::to_string(pages * kPageTokens) +
                                                   " tokens (" + std::to_string(bytes) + " bytes)");
}

}  // namespace strata::engine
