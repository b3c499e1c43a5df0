#include "services/verify/engine/ranking.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "services/verify/engine/simd.h"

namespace strata::engine {
namespace {

constexpr int64_t kFloatsALine = 64 / sizeof(float);
constexpr float kLowest = -std::numeric_limits<float>::infinity();

STRATA_INLINE float BlockMax(const float* block, int64_t size) {
  // `x > m` is false for NaN.
  F32x8 lanes, x;
  Fill(kLowest, lanes);
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    Load(block + i, x);
    lanes = x > lanes ? x : lanes;
  }
  for (; i < size; ++i) lanes[0] = block[i] > lanes[0] ? block[i] : lanes[0];
  return Greatest(lanes);
}

STRATA_CLONES void EachBlockMax(const float* logits, int64_t size, float* block_max) {
  for (int64_t begin = 0; begin < size; begin += kLogitBlock) {
    *block_max++ = BlockMax(logits + begin, std::min(kLogitBlock, size - begin));
  }
}

// Of the values, none of which is NaN; the lowest there is if there are fewer than k >= 1.
float KthGreatest(std::span<const float> values, size_t k) {
  if (values.size() < k) return kLowest;
  // Sorted, the greatest first.
  std::vector<float> greatest(k, kLowest);
  for (const float value : values) {
    if (!(value > greatest.back())) continue;
    const auto at = std::upper_bound(greatest.begin(), greatest.end(), value, std::greater<>());
    std::move_backward(at, greatest.end() - 1, greatest.end());
    *at = value;
  }
  return greatest.back();
}

}  // namespace

void BlockMaxima(std::span<const float> logits, float* block_max) {
  EachBlockMax(logits.data(), static_cast<int64_t>(logits.size()), block_max);
}

int TopTokens(std::span<const float> logits, std::span<const float> block_max,
              std::span<int32_t> top) {
  const size_t wanted = std::min(top.size(), logits.size());
  if (wanted == 0) return 0;
  const auto size = static_cast<int64_t>(logits.size());
  const std::span<const float> maxima = block_max.first(LogitBlocks(size));
  // Each of these is a logit, so that as many as are wanted are no lower than the last of them.
  const float least = KthGreatest(maxima, wanted);
  std::vector<int64_t> begins;
  begins.reserve(2 * wanted);
  for (size_t block = 0; block < maxima.size(); ++block) {
    if (!(maxima[block] >= least)) continue;
    begins.push_back(static_cast<int64_t>(block) * kLogitBlock);
    // A row comes from another core or a device: each line is fetched from memory.
    const float* first = logits.data() + begins.back();
    for (int64_t i = 0; i < std::min(kLogitBlock, size - begins.back()); i += kFloatsALine) {
      __builtin_prefetch(first + i);
    }
  }
  struct Entry {
    float logit;
    int32_t id;
  };
  // Sorted, the best first; ids come ascending, so that a later equal one stays behind.
  std::vector<Entry> best;
  best.reserve(wanted + 1);
  for (const int64_t begin : begins) {
    if (best.size() == wanted && !(maxima[begin / kLogitBlock] > best.back().logit)) continue;
    const int64_t end = std::min(begin + kLogitBlock, size);
    for (int64_t i = begin; i < end; ++i) {
      const float logit = std::isnan(logits[i]) ? kLowest : logits[i];
      if (logit < least || (best.size() == wanted && !(logit > best.back().logit))) continue;
      const auto at =
          std::upper_bound(best.begin(), best.end(), logit,
                           [](float value, const Entry& entry) { return value > entry.logit; });
      best.insert(at, {logit, static_cast<int32_t>(i)});
      if (best.size() > wanted) best.pop_back();
    }
  }
  for (size_t i = 0; i < best.size(); ++i) top[i] = best[i].id;
  return static_cast<int>(best.size());
}

}  // namespace strata::engine
