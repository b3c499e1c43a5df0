#ifndef STRATA_COMMON_BASE_SHUFFLE_H_
#define STRATA_COMMON_BASE_SHUFFLE_H_

#include <cstddef>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

namespace strata {

// Puts `items` in an order that depends on their number and the seed alone; std::shuffle may differ
// between standard libraries. The modulo's bias is below 2^-40 up to 2^24 items.
template <typename T>
void Shuffle(uint64_t seed, std::vector<T>& items) {
  std::mt19937_64 random(seed);
  for (size_t left = items.size(); left > 1; --left) {
    std::swap(items[left - 1], items[random() % left]);
  }
}

}  // namespace strata

#endif  // STRATA_COMMON_BASE_SHUFFLE_H_
