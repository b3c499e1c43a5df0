#include "services/verify/engine/rotary.h"

#include <cmath>

namespace strata::engine {

RotaryTable MakeRotaryTable(std::span<const float> inverse_frequencies, int64_t positions) {
  const auto half = static_cast<int64_t>(inverse_frequencies.size());
  RotaryTable table;
  table.cosine.resize(positions * half);
  table.sine.resize(positions * half);
  for (int64_t p = 0; p < positions; ++p) {
    for (int64_t i = 0; i < half; ++i) {
      const float angle = static_cast<float>(p) * inverse_frequencies[i];
      table.cosine[p * half + i] = std::cos(angle);
      table.sine[p * half + i] = std::sin(angle);
    }
  }
  return table;
}

}  // namespace strata::engine
