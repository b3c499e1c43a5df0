#ifndef STRATA_SERVICES_VERIFY_ENGINE_KV_CACHE_H_
#define STRATA_SERVICES_VERIFY_ENGINE_KV_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "services/verify/engine/kv_pages.h"
#include "services/verify/engine/rows.h"
#include "services/verify/engine/status.h"

namespace strata::engine {

// The index of an element of type T in a block of one head. Keys lie as [head_dim /
// P][kPageTokens][P], so that a vector holds the same dimensions of sixteen keys, and values as
// [kPageTokens / P][head_dim][P]: P elements are a 32-bit word, the pairs of bf16 that AMX and a
// product in vectors both take at once.
template <typename T>
struct KvLayout {
  static constexpr int64_t kPack = 4 / sizeof(T);

  static constexpr int64_t KeyIndex(int64_t slot, int64_t d) {
    return (d / kPack * kPageTokens + slot) * kPack + d % kPack;
  }
  static constexpr int64_t ValueIndex(int64_t slot, int64_t d, int64_t head_dim) {
    return (slot / kPack * head_dim + d) * kPack + slot % kPack;
  }
};

// The keys and values of all sequences in the CPU's memory, by page (KvPages says whose page it
// is).
//
// For each layer, page and KV head, a block of keys and one of values (KvLayout). Not thread-safe
// where the same slot is written.
class KvCache {
 public:
  // element_size: 4 (fp32) or 2 (bf16). Memory is zeroed, and taken from the
  // system only as pages are first written.
  static Result<std::unique_ptr<KvCache>> Create(int64_t pages, int64_t layers, int64_t kv_heads,
                                                 int64_t head_dim, int64_t element_size);

  // Keys or values of one page and head.
  std::byte* Keys(int64_t layer, int32_t page, int64_t kv_head) {
    return base_ + Offset(layer, page, kv_head);
  }
  std::byte* Values(int64_t layer, int32_t page, int64_t kv_head) {
    return base_ + Offset(layer, page, kv_head) + half_block_;
  }

  // Copies one token's keys and values, all layers and heads.
  void CopyToken(const KvMove& move);

 private:
  template <typename T>
  void CopyTokenOf(const KvMove& move);

  struct FreeMemory {
    void operator()(std::byte* p) const { std::free(p); }
  };
  KvCache() = default;
  int64_t Offset(int64_t layer, int32_t page, int64_t kv_head) const {
    return ((layer * total_pages_ + page) * kv_heads_ + kv_head) * 2 * half_block_;
  }

  int64_t total_pages_ = 0;
  int64_t layers_ = 0;
  int64_t kv_heads_ = 0;
  int64_t head_dim_ = 0;
  int64_t element_size_ = 0;
  int64_t half_block_ = 0;  // bytes of one head's keys in one page
  std::unique_ptr<std::byte, FreeMemory> memory_;
  std::byte* base_ = nullptr;  // in memory_, where a cache line begins
};

// RESOURCE_EXHAUSTED: there is no room for the keys and values of `pages` pages.
Status NoRoomForKvCache(int64_t pages, int64_t bytes);

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_KV_CACHE_H_
