#ifndef STRATA_SERVICES_VERIFY_ENGINE_VECTOR_ATTENTION_H_
#define STRATA_SERVICES_VERIFY_ENGINE_VECTOR_ATTENTION_H_

#include <cstdint>

#include "services/verify/engine/bf16.h"
#include "services/verify/engine/joint_rows.h"

namespace strata::engine {

// Attention in vectors, on any CPU, with the same bits in vectors of any width.
struct VectorAttention {
  // Query heads that share a KV head are taken in groups of up to four, so that a key or value is
  // widened once for all and the sums form independent chains.
  static constexpr int64_t kHeads = 4;
  // Most rows that are taken together, so that keys and values are read once for them.
  static constexpr int64_t kRows = 8;

  // The query heads [first, end), which share joint.head. joint: up to kRows rows, with scores of
  // kHeads heads of each.
  static void Run(const JointRows<float, float>& joint, int64_t first, int64_t end);
  static void Run(const JointRows<Bf16, Bf16>& joint, int64_t first, int64_t end);
  static void Run(const JointRows<Bf16, float>& joint, int64_t first, int64_t end);
};

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_VECTOR_ATTENTION_H_
