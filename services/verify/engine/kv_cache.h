#ifndef STRATA_SERVICES_VERIFY_ENGINE_KV_CACHE_H_
#define STRATA_SERVICES_VERIFY_ENGINE_KV_CACHE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "services/verify/engine/status.h"

namespace strata::engine {

// Tokens a page; also the number of keys that attention scores at once.
inline constexpr int kPageTokens = 16;

// The paged keys and values of all sequences.
//
// For each layer, page and KV head, keys lie as [head_dim][kPageTokens] (transposed,
// so that one vector holds one dimension of sixteen keys) and values as
// [kPageTokens][head_dim].
//
// A page is used by any number of sequences and kept by any number of handles (KvPage); it is free
// when there are none of either. Not thread-safe, except free_pages() and kept_pages().
class KvCache {
 public:
  // element_size: 4 (fp32) or 2 (bf16). Memory is zeroed, and taken from the
  // system only as pages are first written.
  static Result<std::unique_ptr<KvCache>> Create(int64_t pages, int64_t layers, int64_t kv_heads,
                                                 int64_t head_dim, int64_t element_size);

  int64_t total_pages() const { return total_pages_; }
  int64_t free_pages() const { return free_count_.load(std::memory_order_relaxed); }
  // Pages that handles alone hold.
  int64_t kept_pages() const { return kept_count_.load(std::memory_order_relaxed); }

  // For one sequence's use. False, and nothing taken, if fewer than `count` pages are free.
  bool Allocate(int64_t count, std::vector<int32_t>& pages);
  // One more sequence uses a page that is not free; one less uses each of `pages`.
  void Use(int32_t page);
  void Release(std::span<const int32_t> pages);
  int32_t users(int32_t page) const { return holders_[page].sequences; }
  // One more handle keeps a page that is not free, or one less.
  void Keep(int32_t page) { ++holders_[page].handles; }
  void Drop(int32_t page);

  // Keys or values of one page and head.
  std::byte* Keys(int64_t layer, int32_t page, int64_t kv_head) {
    return base_.get() + Offset(layer, page, kv_head);
  }
  std::byte* Values(int64_t layer, int32_t page, int64_t kv_head) {
    return base_.get() + Offset(layer, page, kv_head) + half_block_;
  }

  // Copies one token's keys and values, all layers and heads.
  void CopyToken(int32_t from_page, int from_slot, int32_t to_page, int to_slot);

 private:
  struct FreeMemory {
    void operator()(std::byte* p) const { std::free(p); }
  };
  struct Holders {
    int32_t sequences = 0;
    int32_t handles = 0;
  };
  KvCache() = default;
  void Free(int32_t page);
  int64_t Offset(int64_t layer, int32_t page, int64_t kv_head) const {
    return ((layer * total_pages_ + page) * kv_heads_ + kv_head) * 2 * half_block_;
  }

  int64_t total_pages_ = 0;
  int64_t layers_ = 0;
  int64_t kv_heads_ = 0;
  int64_t head_dim_ = 0;
  int64_t element_size_ = 0;
  int64_t half_block_ = 0;  // bytes of one head's keys in one page
  std::unique_ptr<std::byte, FreeMemory> base_;
  std::vector<Holders> holders_;
  std::vector<int32_t> free_list_;
  std::atomic<int64_t> free_count_{0};
  std::atomic<int64_t> kept_count_{0};
};

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_KV_CACHE_H_
