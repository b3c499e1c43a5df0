#ifndef STRATA_SERVICES_VERIFY_ENGINE_KV_PAGES_H_
#define STRATA_SERVICES_VERIFY_ENGINE_KV_PAGES_H_

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

namespace strata::engine {

// Tokens a page; also the number of keys that attention scores at once.
inline constexpr int kPageTokens = 16;

// Where a token's keys and values are: page * kPageTokens + offset.
inline int32_t KvSlot(int32_t page, int32_t offset) { return page * kPageTokens + offset; }

// Who holds which page of the KV cache; the keys and values themselves belong to the model, in
// its device's memory.
//
// A page is used by any number of sequences and kept by any number of handles (KvPage); it is free
// when there are none of either. Not thread-safe, except free_pages() and kept_pages().
class KvPages {
 public:
  explicit KvPages(int64_t pages);

  int64_t total_pages() const { return static_cast<int64_t>(holders_.size()); }
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

 private:
  struct Holders {
    int32_t sequences = 0;
    int32_t handles = 0;
  };
  void Free(int32_t page);

  std::vector<Holders> holders_;
  std::vector<int32_t> free_list_;
  std::atomic<int64_t> free_count_{0};
  std::atomic<int64_t> kept_count_{0};
};

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_KV_PAGES_H_
