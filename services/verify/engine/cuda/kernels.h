#ifndef STRATA_SERVICES_VERIFY_ENGINE_CUDA_KERNELS_H_
#define STRATA_SERVICES_VERIFY_ENGINE_CUDA_KERNELS_H_

#include <cmath>
#include <cstdint>

#include "services/verify/engine/cuda/block.h"
#include "services/verify/engine/cuda/kv_layout.h"
#include "services/verify/engine/cuda/step.h"
#include "services/verify/engine/rows.h"

// The work of a layer besides attention, as kernels of one block (block.h). T is the activations'
// type, float or Bf16; the residual stream is fp32. Row lengths are multiples of 16 where nothing
// else is said, and all pointers are aligned to 16 bytes.
//
// Row invariance: a block computes one row or a part of one, and the order of its sums follows
// from the row's length alone. Grids say which blocks there are as (x, y). Blocks of rows from
// step->rows on, which pad a step to a size that is captured, do nothing.
namespace strata::engine::cuda {

// Threads of the blocks of all kernels here but AddRmsNorm's (and attention's). A block does little
// and leaves the rest of a row to others: what a lone row's step costs is how long its blocks wait
// for memory, once for each round of their threads.
inline constexpr int kBlockThreads = 256;
// A row's sum of squares is one block's.
inline constexpr int kNormThreads = 1024;

// residual[r] = table[token of row r]. Grid: (rows, 1).
template <typename T>
struct EmbedParams {
  const StepInput* step = nullptr;
  const T* table = nullptr;  // [vocab, width]
  int64_t width = 0;
  float* residual = nullptr;  // [rows, width]
};
template <typename T, typename Block>
STRATA_DEVICE void Embed(Block& block, const EmbedParams<T>& p) {
  const int64_t row = block.x();
  if (row >= p.step->rows) return;
  const T* from = p.table + p.step->row[row].token * p.width;
  float* to = p.residual + row * p.width;
  block.ForEachThread([&](int t) {
    for (int64_t i = 4 * t; i < p.width; i += 4 * Block::kThreads) {
      float x[4];
      Load4(from + i, x);
      Store4(x, to + i);
    }
  });
}

// residual[s] += delta[s] (if there is a delta); out[r] = RmsNorm(residual[s]) * weight, where s is
// source[r], or r itself where there is no source. Grid: (rows of out, 1).
// Shared memory: kThreads floats.
template <typename T>
struct AddRmsNormParams {
  const StepInput* step = nullptr;  // null: every block has a row
  const int32_t* source = nullptr;
  const T* delta = nullptr;       // [rows, width]
  const float* weight = nullptr;  // [width]
  float eps = 0;
  int64_t width = 0;
  float* residual = nullptr;  // [rows, width]
  T* out = nullptr;           // [rows of out, width]
};
template <typename T, typename Block>
STRATA_DEVICE void AddRmsNorm(Block& block, const AddRmsNormParams<T>& p) {
  const int64_t row = block.x();
  if (p.step != nullptr && row >= p.step->rows) return;
  const int64_t at = (p.source != nullptr ? p.source[row] : row) * p.width;
  float* sums = reinterpret_cast<float*>(block.shared());
  block.ForEachThread([&](int t) {
    float sum = 0;
    for (int64_t i = 4 * t; i < p.width; i += 4 * Block::kThreads) {
      float x[4];
      Load4(p.residual + at + i, x);
      if (p.delta != nullptr) {
        float d[4];
        Load4(p.delta + at + i, d);
        for (int k = 0; k < 4; ++k) x[k] += d[k];
        Store4(x, p.residual + at + i);
      }
      for (int k = 0; k < 4; ++k) sum += x[k] * x[k];
    }
    sums[t] = sum;
  });
  for (int half = Block::kThreads / 2; half > 0; half /= 2) {
    block.ForEachThread([&](int t) {
      if (t < half) sums[t] += sums[t + half];
    });
  }
  block.ForEachThread([&](int t) {
    const float scale = 1.0f / sqrtf(sums[0] / static_cast<float>(p.width) + p.eps);
    // A thread reads what it wrote itself.
    for (int64_t i = 4 * t; i < p.width; i += 4 * Block::kThreads) {
      float x[4], w[4];
      Load4(p.residual + at + i, x);
      Load4(p.weight + i, w);
      for (int k = 0; k < 4; ++k) x[k] = x[k] * scale * w[k];
      Store4(x, p.out + row * p.width + i);
    }
  });
}

// Rotates queries and keys (halves convention); keys and values go to the row's slot of the cache,
// queries, scaled by 1 / sqrt(head_dim), to q. A warp for each head of queries, keys and values.
// Grid: (rows, StoreRowsBlocks(heads, kv_heads)).
template <typename T>
struct StoreRowsParams {
  const StepInput* step = nullptr;
  const T* qkv = nullptr;  // [rows, (heads + 2 kv_heads) * head_dim]
  int64_t heads = 0;
  KvLayout layout;
  const float* cosine = nullptr;  // [positions, head_dim / 2]
  const float* sine = nullptr;
  float* q = nullptr;  // [rows, heads * head_dim]
  T* cache = nullptr;  // of this layer
};
inline int64_t StoreRowsBlocks(int64_t heads, int64_t kv_heads) {
  constexpr int kPerBlock = kBlockThreads / kWarpLanes;
  return (heads + 2 * kv_heads + kPerBlock - 1) / kPerBlock;
}
template <typename T, typename Block>
STRATA_DEVICE void StoreRows(Block& block, const StoreRowsParams<T>& p) {
  const int64_t r = block.x();
  if (r >= p.step->rows) return;
  const StepRow& row = p.step->row[r];
  const int dim = static_cast<int>(p.layout.head_dim);
  const int half = dim / 2;
  const int heads = static_cast<int>(p.heads), kv_heads = static_cast<int>(p.layout.kv_heads);
  const float* cosines = p.cosine + int64_t{row.position} * half;
  const float* sines = p.sine + int64_t{row.position} * half;
  const float scale = 1.0f / sqrtf(static_cast<float>(dim));
  block.ForEachWarp([&](int warp, auto& lanes) {
    const int head = block.y() * Block::kWarps + warp;
    if (head >= heads + 2 * kv_heads) return;
    const T* from = p.qkv + (r * (heads + 2 * kv_heads) + head) * dim;
    if (head >= heads + kv_heads) {
      T* to =
          p.cache + p.layout.KeyOffset(row.slot, head - heads - kv_heads) + p.layout.ValueOffset();
      lanes.ForEach([&](int lane) {
        for (int i = 2 * lane; i < dim; i += 2 * kWarpLanes)
          StorePack(LoadPack<2>(from + i), to + i);
      });
      return;
    }
    lanes.ForEach([&](int lane) {
      for (int i = 2 * lane; i < half; i += 2 * kWarpLanes) {
        const Pack<T, 2> first = LoadPack<2>(from + i), second = LoadPack<2>(from + half + i);
        const Pack<float, 2> cosine = LoadPack<2>(cosines + i), sine = LoadPack<2>(sines + i);
        Pack<float, 2> x, y;
        STRATA_UNROLL
        for (int k = 0; k < 2; ++k) {
          const float a = ToFloat(first.items[k]), b = ToFloat(second.items[k]);
          x.items[k] = a * cosine.items[k] - b * sine.items[k];
          y.items[k] = b * cosine.items[k] + a * sine.items[k];
        }
        if (head < heads) {
          float* to = p.q + (r * heads + head) * dim + i;
          STRATA_UNROLL
          for (int k = 0; k < 2; ++k) {
            x.items[k] *= scale;
            y.items[k] *= scale;
          }
          StorePack(x, to);
          StorePack(y, to + half);
        } else {
          T* to = p.cache + p.layout.KeyOffset(row.slot, head - heads) + i;
          Pack<T, 2> key[2];
          STRATA_UNROLL
          for (int k = 0; k < 2; ++k) {
            FromFloat(x.items[k], key[0].items[k]);
            FromFloat(y.items[k], key[1].items[k]);
          }
          StorePack(key[0], to);
          StorePack(key[1], to + half);
        }
      }
    });
  });
}

// out[r] = silu(gate) * up. Grid: (rows, SiluMultiplyBlocks(width)).
template <typename T>
struct SiluMultiplyParams {
  const StepInput* step = nullptr;
  const T* gate_up = nullptr;  // [rows, 2 * width]: gate, up
  int64_t width = 0;
  T* out = nullptr;  // [rows, width]
};
inline int64_t SiluMultiplyBlocks(int64_t width) {
  return (width + 4 * kBlockThreads - 1) / (4 * kBlockThreads);
}
template <typename T, typename Block>
STRATA_DEVICE void SiluMultiply(Block& block, const SiluMultiplyParams<T>& p) {
  const int64_t row = block.x();
  if (row >= p.step->rows) return;
  const T* gate = p.gate_up + row * 2 * p.width;
  block.ForEachThread([&](int t) {
    const int64_t i = 4 * (int64_t{block.y()} * Block::kThreads + t);
    if (i >= p.width) return;
    float g[4], u[4];
    Load4(gate + i, g);
    Load4(gate + p.width + i, u);
    for (int k = 0; k < 4; ++k) g[k] = g[k] / (1.0f + expf(-g[k])) * u[k];
    Store4(g, p.out + row * p.width + i);
  });
}

// Widens logits and finds the greatest of each block of 64 (ranking.h; NaN counts as -inf).
// Grid: (WidenLogitsBlocks(vocab), rows). Shared memory: kThreads floats.
template <typename T>
struct WidenLogitsParams {
  const T* from = nullptr;  // [rows, vocab], of any width
  int64_t vocab = 0;
  float* logits = nullptr;     // [rows, vocab]
  float* block_max = nullptr;  // [rows, ceil(vocab / 64)]
};
inline constexpr int kMaxBlock = 64;  // = kLogitBlock
inline int64_t WidenLogitsBlocks(int64_t vocab) {
  constexpr int kPerBlock = kMaxBlock * (kBlockThreads / kWarpLanes);
  return (vocab + kPerBlock - 1) / kPerBlock;
}
template <typename T, typename Block>
STRATA_DEVICE void WidenLogits(Block& block, const WidenLogitsParams<T>& p) {
  const int64_t row = block.y();
  const int64_t maxima = (p.vocab + kMaxBlock - 1) / kMaxBlock;
  float* shared = reinterpret_cast<float*>(block.shared());
  block.ForEachWarp([&](int warp, auto& lanes) {
    const int64_t index = int64_t{block.x()} * Block::kWarps + warp;
    if (index >= maxima) return;
    float* greatest = shared + warp * kWarpLanes;
    lanes.ForEach([&](int lane) {
      float most = -INFINITY;
      for (int64_t i = index * kMaxBlock + lane; i < p.vocab && i < (index + 1) * kMaxBlock;
           i += kWarpLanes) {
        const float x = ToFloat(p.from[row * p.vocab + i]);
        p.logits[row * p.vocab + i] = x;
        most = x > most ? x : most;
      }
      greatest[lane] = most;
    });
    lanes.ForEach([&](int lane) {
      if (lane != 0) return;
      float most = greatest[0];
      for (int i = 1; i < kWarpLanes; ++i) most = greatest[i] > most ? greatest[i] : most;
      p.block_max[row * maxima + index] = most;
    });
  });
}

// y[r] = bias. Grid: (rows, 1).
template <typename T>
struct FillRowsParams {
  const T* bias = nullptr;  // [width], of any width
  int64_t width = 0;
  T* y = nullptr;  // [rows, width]
};
template <typename T, typename Block>
STRATA_DEVICE void FillRows(Block& block, const FillRowsParams<T>& p) {
  block.ForEachThread([&](int t) {
    for (int64_t i = t; i < p.width; i += Block::kThreads) {
      p.y[block.x() * p.width + i] = p.bias[i];
    }
  });
}

// y[r] = x[r] weight^T + bias, a warp for each output and row: slow, and row-invariant by
// construction. Grid: (LinearRowsBlocks(out), rows). Shared memory: kThreads floats.
template <typename T>
struct LinearRowsParams {
  const T* x = nullptr;       // [rows, in]
  const T* weight = nullptr;  // [out, in]
  const T* bias = nullptr;    // [out] or null
  int64_t in = 0;
  int64_t out = 0;  // of any size
  T* y = nullptr;   // [rows, out]
};
inline int64_t LinearRowsBlocks(int64_t out) {
  constexpr int kPerBlock = kBlockThreads / kWarpLanes;
  return (out + kPerBlock - 1) / kPerBlock;
}
template <typename T, typename Block>
STRATA_DEVICE void LinearRows(Block& block, const LinearRowsParams<T>& p) {
  const int64_t row = block.y();
  float* shared = reinterpret_cast<float*>(block.shared());
  block.ForEachWarp([&](int warp, auto& lanes) {
    const int64_t output = int64_t{block.x()} * Block::kWarps + warp;
    if (output >= p.out) return;
    float* sums = shared + warp * kWarpLanes;
    lanes.ForEach([&](int lane) {
      float sum = 0;
      for (int64_t i = 4 * lane; i < p.in; i += 4 * kWarpLanes) {
        float x[4], w[4];
        Load4(p.x + row * p.in + i, x);
        Load4(p.weight + output * p.in + i, w);
        for (int k = 0; k < 4; ++k) sum += x[k] * w[k];
      }
      sums[lane] = sum;
    });
    lanes.ForEach([&](int lane) {
      if (lane != 0) return;
      float sum = sums[0];
      for (int i = 1; i < kWarpLanes; ++i) sum += sums[i];
      if (p.bias != nullptr) sum += ToFloat(p.bias[output]);
      FromFloat(sum, p.y[row * p.out + output]);
    });
  });
}

// Copies tokens' keys and values, one move after the other. Grid: (layers, kv_heads).
inline constexpr int kMovesAtOnce = 64;
template <typename T>
struct MoveTokensParams {
  KvMove moves[kMovesAtOnce];
  int count = 0;
  KvLayout layout;
  T* cache = nullptr;  // of all layers
};
template <typename T, typename Block>
STRATA_DEVICE void MoveTokens(Block& block, const MoveTokensParams<T>& p) {
  constexpr int kItems = 16 / sizeof(T);
  T* layer = p.cache + block.x() * p.layout.LayerSize();
  const int64_t pieces = p.layout.head_dim / kItems;
  block.ForEachThread([&](int t) {
    // All moves of one piece of a key or a value are one thread's, so they keep their order.
    for (int64_t i = t; i < 2 * pieces; i += Block::kThreads) {
      const int64_t at = (i < pieces ? i : i - pieces) * kItems;
      T* base = layer + at + (i < pieces ? 0 : p.layout.ValueOffset());
      for (int m = 0; m < p.count; ++m) {
        const T* from = base + p.layout.KeyOffset(p.moves[m].from, block.y());
        T* to = base + p.layout.KeyOffset(p.moves[m].to, block.y());
        StorePack(LoadPack<kItems>(from), to);
      }
    }
  });
}

}  // namespace strata::engine::cuda

#endif  // STRATA_SERVICES_VERIFY_ENGINE_CUDA_KERNELS_H_
