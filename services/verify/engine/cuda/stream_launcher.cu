#include <stdexcept>
#include <string>

#include "services/verify/engine/cuda/cuda_block.h"
#include "services/verify/engine/cuda/stream_launcher.h"

namespace strata::engine::cuda {
namespace {

constexpr size_t kFloats = kBlockThreads * sizeof(float);

template <typename T>
__global__ void __launch_bounds__(kBlockThreads) EmbedKernel(EmbedParams<T> params) {
  CudaBlock<kBlockThreads> block;
  Embed<T>(block, params);
}

template <typename T>
__global__ void __launch_bounds__(kNormThreads) AddRmsNormKernel(AddRmsNormParams<T> params) {
  CudaBlock<kNormThreads> block;
  AddRmsNorm<T>(block, params);
}

template <typename T>
__global__ void __launch_bounds__(kBlockThreads) StoreRowsKernel(StoreRowsParams<T> params) {
  CudaBlock<kBlockThreads> block;
  StoreRows<T>(block, params);
}

template <typename T, int kHeads, int kChunks>
__global__ void __launch_bounds__(AttentionWarps<T>(kChunks) * kWarpLanes)
    PagedAttentionKernel(AttentionParams<T> params) {
  CudaBlock<AttentionWarps<T>(kChunks) * kWarpLanes> block;
  PagedAttention<T, kHeads, kChunks>(block, params);
}

template <int kChunks>
__global__ void __launch_bounds__(kTensorWarps* kWarpLanes, 2)
    TensorAttentionKernel(AttentionParams<Bf16> params) {
  CudaBlock<kTensorWarps * kWarpLanes> block;
  TensorAttention<kChunks>(block, params);
}

template <typename T>
__global__ void __launch_bounds__(kBlockThreads) SiluMultiplyKernel(SiluMultiplyParams<T> params) {
  CudaBlock<kBlockThreads> block;
  SiluMultiply<T>(block, params);
}

template <typename T>
__global__ void __launch_bounds__(kBlockThreads) WidenLogitsKernel(WidenLogitsParams<T> params) {
  CudaBlock<kBlockThreads> block;
  WidenLogits<T>(block, params);
}

template <typename T>
__global__ void __launch_bounds__(kBlockThreads) FillRowsKernel(FillRowsParams<T> params) {
  CudaBlock<kBlockThreads> block;
  FillRows<T>(block, params);
}

template <typename T>
__global__ void __launch_bounds__(kBlockThreads) LinearRowsKernel(LinearRowsParams<T> params) {
  CudaBlock<kBlockThreads> block;
  LinearRows<T>(block, params);
}

template <typename T>
__global__ void __launch_bounds__(kBlockThreads) MoveTokensKernel(MoveTokensParams<T> params) {
  CudaBlock<kBlockThreads> block;
  MoveTokens<T>(block, params);
}

dim3 Grid(int64_t x, int64_t y) {
  return dim3(static_cast<unsigned int>(x), static_cast<unsigned int>(y));
}

void CheckStarted(const char* kernel) {
  const cudaError_t error = cudaGetLastError();
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string("CUDA kernel ") + kernel + ": " + cudaGetErrorString(error));
}

}  // namespace

template <typename T>
void StreamLauncher<T>::Embed(const EmbedParams<T>& params, int64_t rows) {
  EmbedKernel<T><<<Grid(rows, 1), kBlockThreads, 0, stream_>>>(params);
  CheckStarted("Embed");
}

template <typename T>
void StreamLauncher<T>::AddRmsNorm(const AddRmsNormParams<T>& params, int64_t rows) {
  AddRmsNormKernel<T>
      <<<Grid(rows, 1), kNormThreads, kNormThreads * sizeof(float), stream_>>>(params);
  CheckStarted("AddRmsNorm");
}

template <typename T>
void StreamLauncher<T>::StoreRows(const StoreRowsParams<T>& params, int64_t rows) {
  const int64_t y = StoreRowsBlocks(params.heads, params.layout.kv_heads);
  StoreRowsKernel<T><<<Grid(rows, y), kBlockThreads, 0, stream_>>>(params);
  CheckStarted("StoreRows");
}

template <>
void StreamLauncher<float>::PagedAttention(const AttentionParams<float>& params, int64_t groups) {
  ForEachAttentionGrid(params, [&](auto heads, auto chunks, const auto& grid, int64_t y) {
    constexpr int kHeads = decltype(heads)::value, kChunks = decltype(chunks)::value;
    constexpr int kWarps = AttentionWarps<float>(kChunks);
    const int64_t shared = AttentionSharedBytes<float>(params.layout.head_dim, kHeads, kWarps);
    PagedAttentionKernel<float, kHeads, kChunks>
        <<<Grid(groups, y), kWarps * kWarpLanes, shared, stream_>>>(grid);
    CheckStarted("PagedAttention");
  });
}

template <>
void StreamLauncher<Bf16>::PagedAttention(const AttentionParams<Bf16>& params, int64_t groups) {
  WithTensorAttentionGrid(params, [&](auto chunks, const auto& grid, int64_t y) {
    constexpr int kChunks = decltype(chunks)::value;
    const TensorShared sizes = {static_cast<int>(params.layout.head_dim)};
    const int64_t shared = sizes.Bytes();
    // More than 48 KiB must be asked for; at every start, for that costs nothing.
    cudaFuncSetAttribute(TensorAttentionKernel<kChunks>,
                         cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
    CheckStarted("TensorAttention");
    TensorAttentionKernel<kChunks>
        <<<Grid(groups, y), kTensorWarps * kWarpLanes, shared, stream_>>>(grid);
    CheckStarted("TensorAttention");
  });
}

template <typename T>
void StreamLauncher<T>::SiluMultiply(const SiluMultiplyParams<T>& params, int64_t rows) {
  const int64_t y = SiluMultiplyBlocks(params.width);
  SiluMultiplyKernel<T><<<Grid(rows, y), kBlockThreads, 0, stream_>>>(params);
  CheckStarted("SiluMultiply");
}

template <typename T>
void StreamLauncher<T>::WidenLogits(const WidenLogitsParams<T>& params, int64_t rows) {
  WidenLogitsKernel<T>
      <<<Grid(WidenLogitsBlocks(params.vocab), rows), kBlockThreads, kFloats, stream_>>>(params);
  CheckStarted("WidenLogits");
}

template <typename T>
void StreamLauncher<T>::FillRows(const FillRowsParams<T>& params, int64_t rows) {
  FillRowsKernel<T><<<Grid(rows, 1), kBlockThreads, 0, stream_>>>(params);
  CheckStarted("FillRows");
}

template <typename T>
void StreamLauncher<T>::LinearRows(const LinearRowsParams<T>& params, int64_t rows) {
  LinearRowsKernel<T>
      <<<Grid(LinearRowsBlocks(params.out), rows), kBlockThreads, kFloats, stream_>>>(params);
  CheckStarted("LinearRows");
}

template <typename T>
void StreamLauncher<T>::MoveTokens(const MoveTokensParams<T>& params, int64_t layers) {
  MoveTokensKernel<T><<<Grid(layers, params.layout.kv_heads), kBlockThreads, 0, stream_>>>(params);
  CheckStarted("MoveTokens");
}

template class StreamLauncher<float>;
template class StreamLauncher<Bf16>;

}  // namespace strata::engine::cuda
