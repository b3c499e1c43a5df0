#ifndef STRATA_SERVICES_VERIFY_ENGINE_ROTARY_H_
#define STRATA_SERVICES_VERIFY_ENGINE_ROTARY_H_

#include <cstdint>
#include <span>
#include <vector>

namespace strata::engine {

// The angles of rotary position embeddings (RoFormer, arXiv 2104.09864), computed once on the CPU
// so that every device rotates by the same numbers. Row p belongs to position p.
struct RotaryTable {
  std::vector<float> cosine;  // [positions, inverse_frequencies]
  std::vector<float> sine;
};

RotaryTable MakeRotaryTable(std::span<const float> inverse_frequencies, int64_t positions);

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_ROTARY_H_
