#ifndef STRATA_SERVICES_VERIFY_ENGINE_JOINT_ROWS_H_
#define STRATA_SERVICES_VERIFY_ENGINE_JOINT_ROWS_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>

#include "services/verify/engine/kv_cache.h"
#include "services/verify/engine/rows.h"
#include "services/verify/engine/simd.h"

// What the ways of attention have in common: rows that are taken together, and where their keys and
// values are, a block of kPageTokens positions at a time.
namespace strata::engine {

// How many of the row's positions lie in the block from `begin`.
STRATA_INLINE int64_t BlockLength(const AttentionRow& row, int64_t begin) {
  return std::min<int64_t>(kPageTokens, row.position + 1 - begin);
}

// Whether the row has all positions of the block from `begin`, none of them scattered.
STRATA_INLINE bool IsWhole(const AttentionRow& row, int64_t begin) {
  return begin + kPageTokens <= std::min(row.direct, row.position + 1);
}

// One KV head of a layer's cache.
template <typename T>
struct HeadCache {
  KvCache& cache;
  int64_t layer;
  int64_t kv_head;
  int64_t head_dim;

  STRATA_INLINE const T* Keys(int32_t page) const {
    return reinterpret_cast<const T*>(cache.Keys(layer, page, kv_head));
  }
  STRATA_INLINE const T* Values(int32_t page) const {
    return reinterpret_cast<const T*>(cache.Values(layer, page, kv_head));
  }
  // Begins to load a page's keys or values.
  STRATA_INLINE void Fetch(const T* block) const {
    const char* const bytes = reinterpret_cast<const char*>(block);
    for (int64_t at = 0; at < BlockBytes(); at += 64) __builtin_prefetch(bytes + at, 0, 3);
  }

  // Keys of the block from `begin`, as a page has them: a page or, where tokens are scattered,
  // `buffer`. Those past the row's position may be anything.
  STRATA_INLINE const T* FindKeys(const AttentionRow& row, int64_t begin, T* buffer) const {
    const int64_t end = begin + BlockLength(row, begin);
    if (end <= row.direct) return Keys(row.pages[begin / kPageTokens]);
    if (begin < row.direct) {
      std::memcpy(buffer, Keys(row.pages[begin / kPageTokens]), BlockBytes());
    }
    for (int64_t position = std::max(begin, row.direct); position < end; ++position) {
      const int32_t from = row.scattered[position - row.direct];
      const T* const keys = Keys(from / kPageTokens) + from % kPageTokens * kPack;
      T* const to = buffer + position % kPageTokens * kPack;
      constexpr int64_t kLine = kPageTokens * kPack;
      for (int64_t i = 0; i < head_dim / kPack; ++i) {
        std::memcpy(to + i * kLine, keys + i * kLine, sizeof(uint32_t));
      }
    }
    return buffer;
  }
  // The same of values, zeros past the row's position: products with them are added to sums.
  STRATA_INLINE const T* FindValues(const AttentionRow& row, int64_t begin, T* buffer) const {
    if (IsWhole(row, begin)) return Values(row.pages[begin / kPageTokens]);
    const int64_t end = begin + BlockLength(row, begin);
    if (begin < row.direct) {
      std::memcpy(buffer, Values(row.pages[begin / kPageTokens]), BlockBytes());
    }
    for (int64_t position = std::max(begin, row.direct); position < end; ++position) {
      const int32_t from = row.scattered[position - row.direct];
      CopyValue(Values(from / kPageTokens), from % kPageTokens, position % kPageTokens, buffer);
    }
    const int64_t count = end - begin;
    if (count % kPack != 0) Clear(count, buffer);
    const int64_t packed = (count + kPack - 1) / kPack * kPack;
    std::memset(buffer + packed * head_dim, 0, (kPageTokens - packed) * head_dim * sizeof(T));
    return buffer;
  }

 private:
  static constexpr int64_t kPack = KvLayout<T>::kPack;
  // An element's bits in a word.
  static constexpr uint32_t kElement = kPack == 1 ? 0xFFFFFFFFu : 0xFFFFu;

  // The shift of a slot's element in its word.
  static constexpr int Shift(int64_t slot) { return static_cast<int>(slot % kPack) * 16; }
  STRATA_INLINE int64_t BlockBytes() const {
    return head_dim * kPageTokens * static_cast<int64_t>(sizeof(T));
  }
  // Where a slot's words begin in a block of values; they are head_dim, a multiple of kLanes.
  STRATA_INLINE int64_t FirstWord(int64_t slot) const { return slot / kPack * head_dim * kPack; }
  STRATA_INLINE void CopyValue(const T* page, int64_t from, int64_t to, T* buffer) const {
    for (int64_t i = 0; i < head_dim * kPack; i += kLanes * kPack) {
      U32x8 element;
      std::memcpy(&element, page + FirstWord(from) + i, sizeof(element));
      element = (element >> Shift(from) & kElement) << Shift(to);
      Put(element, to, buffer + FirstWord(to) + i);
    }
  }
  STRATA_INLINE void Clear(int64_t slot, T* buffer) const {
    for (int64_t i = 0; i < head_dim * kPack; i += kLanes * kPack) {
      Put(U32x8{}, slot, buffer + FirstWord(slot) + i);
    }
  }
  // Replaces a slot's elements in a vector of words; its neighbour's stay.
  static STRATA_INLINE void Put(const U32x8& element, int64_t slot, T* words) {
    U32x8 word;
    std::memcpy(&word, words, sizeof(word));
    word = (word & ~(kElement << Shift(slot))) | element;
    std::memcpy(words, &word, sizeof(word));
  }
};

// Rows that share their pages.
template <typename T, typename Out>
struct JointRows {
  std::span<const AttentionRow> rows;
  const HeadCache<T>& head;
  int64_t width;   // of a row of q and out
  int64_t stride;  // of a head's scores
  const float* q;  // of row 0
  float* scores;   // of the rows' heads
  Out* out;        // of row 0
};

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_JOINT_ROWS_H_
