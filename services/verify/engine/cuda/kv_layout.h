#ifndef STRATA_SERVICES_VERIFY_ENGINE_CUDA_KV_LAYOUT_H_
#define STRATA_SERVICES_VERIFY_ENGINE_CUDA_KV_LAYOUT_H_

#include <cstdint>

#include "services/verify/engine/bf16.h"
#include "services/verify/engine/kv_pages.h"

namespace strata::engine::cuda {

// The KV cache in a device's memory: [layers][pages][kv_heads][keys,
// values][kPageTokens][head_dim]. Unlike on the CPU, keys are not transposed: a warp reads a
// token's key in pieces of 16 bytes.
struct KvLayout {
  int64_t pages = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;

  // All counted in elements.
  STRATA_HOST_DEVICE int64_t LayerSize() const {
    return pages * kv_heads * 2 * kPageTokens * head_dim;
  }
  // Of a slot's key (KvSlot) from the layer's begin; its value is ValueOffset() further.
  STRATA_HOST_DEVICE int64_t KeyOffset(int32_t slot, int64_t kv_head) const {
    return ((slot / kPageTokens * kv_heads + kv_head) * 2 * kPageTokens + slot % kPageTokens) *
           head_dim;
  }
  STRATA_HOST_DEVICE int64_t ValueOffset() const { return kPageTokens * head_dim; }
};

}  // namespace strata::engine::cuda

#endif  // STRATA_SERVICES_VERIFY_ENGINE_CUDA_KV_LAYOUT_H_
