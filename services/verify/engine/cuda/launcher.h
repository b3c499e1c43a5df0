#ifndef STRATA_SERVICES_VERIFY_ENGINE_CUDA_LAUNCHER_H_
#define STRATA_SERVICES_VERIFY_ENGINE_CUDA_LAUNCHER_H_

#include <cstdint>
#include <type_traits>

#include "services/verify/engine/cuda/attention.h"
#include "services/verify/engine/cuda/kernels.h"
#include "services/verify/engine/cuda/tensor_attention.h"

namespace strata::engine::cuda {

// Starts kernels one after the other: on a CUDA stream (stream_launcher.h), or in tests on the CPU.
// Each takes its whole grid; `rows` is the grid's rows where the parameters do not say. A kernel
// that cannot be started throws.
template <typename T>
class Launcher {
 public:
  virtual ~Launcher() = default;
  virtual void Embed(const EmbedParams<T>& params, int64_t rows) = 0;
  virtual void AddRmsNorm(const AddRmsNormParams<T>& params, int64_t rows) = 0;
  virtual void StoreRows(const StoreRowsParams<T>& params, int64_t rows) = 0;
  // All query heads: first, groups are set here. `groups`: of rows.
  virtual void PagedAttention(const AttentionParams<T>& params, int64_t groups) = 0;
  virtual void SiluMultiply(const SiluMultiplyParams<T>& params, int64_t rows) = 0;
  virtual void WidenLogits(const WidenLogitsParams<T>& params, int64_t rows) = 0;
  virtual void FillRows(const FillRowsParams<T>& params, int64_t rows) = 0;
  virtual void LinearRows(const LinearRowsParams<T>& params, int64_t rows) = 0;
  virtual void MoveTokens(const MoveTokensParams<T>& params, int64_t layers) = 0;
};

// Rows of a step that attention takes together (PackStep), where `share` query heads share a KV
// head.
template <typename T>
int AttentionGroupRows(int64_t share) {
  return std::is_same_v<T, Bf16> ? TensorGroupRows(share) : 1;
}

// Calls launch(std::integral_constant<int, C> chunks, params, y) for the grid of TensorAttention.
template <typename Launch>
void WithTensorAttentionGrid(AttentionParams<Bf16> params, const Launch& launch) {
  const int64_t share = params.heads / params.layout.kv_heads;
  params.groups = static_cast<int>((share + kTensorQueries - 1) / kTensorQueries);
  const int64_t y = params.layout.kv_heads * params.groups;
  if (params.layout.head_dim <= 64) return launch(std::integral_constant<int, 1>(), params, y);
  if (params.layout.head_dim <= 128) return launch(std::integral_constant<int, 2>(), params, y);
  return launch(std::integral_constant<int, 4>(), params, y);
}

// Calls launch(std::integral_constant<int, N> heads, std::integral_constant<int, C> chunks, params,
// y) for the grids of PagedAttention: groups of kMaxGroupHeads heads, then those that are left.
template <typename T, typename Launch>
void ForEachAttentionGrid(AttentionParams<T> params, const Launch& launch) {
  const int share = params.heads / static_cast<int>(params.layout.kv_heads);
  const auto with_chunks = [&](auto heads) {
    const int64_t y = params.layout.kv_heads * params.groups;
    switch ((params.layout.head_dim + 63) / 64) {
      case 1:
        return launch(heads, std::integral_constant<int, 1>(), params, y);
      case 2:
        return launch(heads, std::integral_constant<int, 2>(), params, y);
      case 3:
        return launch(heads, std::integral_constant<int, 3>(), params, y);
      default:
        return launch(heads, std::integral_constant<int, 4>(), params, y);
    }
  };
  params.first = 0;
  params.groups = share / kMaxGroupHeads;
  if (params.groups > 0) with_chunks(std::integral_constant<int, kMaxGroupHeads>());
  params.first = params.groups * kMaxGroupHeads;
  params.groups = 1;
  switch (share - params.first) {
    case 1:
      return with_chunks(std::integral_constant<int, 1>());
    case 2:
      return with_chunks(std::integral_constant<int, 2>());
    case 3:
      return with_chunks(std::integral_constant<int, 3>());
    default:
      return;
  }
}

}  // namespace strata::engine::cuda

#endif  // STRATA_SERVICES_VERIFY_ENGINE_CUDA_LAUNCHER_H_
