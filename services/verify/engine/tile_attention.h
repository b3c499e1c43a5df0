#ifndef STRATA_SERVICES_VERIFY_ENGINE_TILE_ATTENTION_H_
#define STRATA_SERVICES_VERIFY_ENGINE_TILE_ATTENTION_H_

#include <algorithm>
#include <cstdint>

#include "services/verify/engine/amx.h"
#include "services/verify/engine/bf16.h"
#include "services/verify/engine/joint_rows.h"

namespace strata::engine {

// Attention on AMX's tiles, where AmxIsUsable(): each row of a tile is a query head of a row, so up
// to 16 of them read a block of keys or values for the price of one. Queries and weights are
// rounded to bf16 (as FlashAttention rounds weights, arXiv 2205.14135), sums are in fp32; the bits
// are not those of VectorAttention. An object belongs to one thread.
class TileAttention {
 public:
  // Heads that are taken together, of `share` that share a KV head, and most rows beside them.
  static constexpr int64_t Heads(int64_t share) { return std::min(share, kTileRows); }
  static constexpr int64_t Rows(int64_t share) { return kTileRows / Heads(share); }

  TileAttention() = default;
  TileAttention(const TileAttention&) = delete;
  TileAttention& operator=(const TileAttention&) = delete;
  // Else the system would keep eight kilobytes of tiles for the thread.
  ~TileAttention();

  // The query heads [first, end), which share joint.head. joint: up to Rows(end - first) rows, with
  // scores of Heads(end - first) heads of each.
  void Run(const JointRows<Bf16, Bf16>& joint, int64_t first, int64_t end);
  void Run(const JointRows<Bf16, float>& joint, int64_t first, int64_t end);

 private:
  int64_t configured_rows_ = 0;  // of a tile
};

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_TILE_ATTENTION_H_
