#include "services/verify/engine/kv_cache.h"

#include <string>

#include "services/verify/engine/bf16.h"

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
  // std::calloc leaves the zeroing of large blocks to the system, page by page, but begins sixteen
  // bytes behind a line: each vector and each row of a tile would lie across two.
  constexpr size_t kLine = 64;
  size_t space = static_cast<size_t>(bytes) + kLine;
  cache->memory_.reset(static_cast<std::byte*>(std::calloc(space, 1)));
  void* begin = cache->memory_.get();
  if (begin == nullptr) return NoRoomForKvCache(pages, bytes);
  cache->base_ =
      static_cast<std::byte*>(std::align(kLine, static_cast<size_t>(bytes), begin, space));
  return cache;
}

template <typename T>
void KvCache::CopyTokenOf(const KvMove& move) {
  using Layout = KvLayout<T>;
  const int32_t from_page = move.from / kPageTokens, from_slot = move.from % kPageTokens;
  const int32_t to_page = move.to / kPageTokens, to_slot = move.to % kPageTokens;
  for (int64_t layer = 0; layer < layers_; ++layer) {
    for (int64_t head = 0; head < kv_heads_; ++head) {
      const T* from = reinterpret_cast<const T*>(Keys(layer, from_page, head));
      T* to = reinterpret_cast<T*>(Keys(layer, to_page, head));
      for (int64_t d = 0; d < head_dim_; ++d) {
        to[Layout::KeyIndex(to_slot, d)] = from[Layout::KeyIndex(from_slot, d)];
      }
      from = reinterpret_cast<const T*>(Values(layer, from_page, head));
      to = reinterpret_cast<T*>(Values(layer, to_page, head));
      for (int64_t d = 0; d < head_dim_; ++d) {
        to[Layout::ValueIndex(to_slot, d, head_dim_)] =
            from[Layout::ValueIndex(from_slot, d, head_dim_)];
      }
    }
  }
}

void KvCache::CopyToken(const KvMove& move) {
  if (element_size_ == sizeof(Bf16)) {
    CopyTokenOf<Bf16>(move);
  } else {
    CopyTokenOf<float>(move);
  }
}

Status NoRoomForKvCache(int64_t pages, int64_t bytes) {
  return Status(ErrorCode::kResourceExhausted, "no memory for a KV cache of " +
                                                   std::to_string(pages * kPageTokens) +
                                                   " tokens (" + std::to_string(bytes) + " bytes)");
}

}  // namespace strata::engine
