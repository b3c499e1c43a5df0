#ifndef STRATA_SERVICES_VERIFY_ENGINE_CUDA_STREAM_LAUNCHER_H_
#define STRATA_SERVICES_VERIFY_ENGINE_CUDA_STREAM_LAUNCHER_H_

#include <cuda_runtime_api.h>

#include "services/verify/engine/cuda/launcher.h"

namespace strata::engine::cuda {

// Starts kernels on a CUDA stream, of the current device, without waiting for them. Throws
// std::runtime_error if one cannot be started; what goes wrong while it runs shows when the stream
// is waited for. The stream must outlive it.
template <typename T>
class StreamLauncher final : public Launcher<T> {
 public:
  explicit StreamLauncher(cudaStream_t stream) : stream_(stream) {}

  void Embed(const EmbedParams<T>& params, int64_t rows) override;
  void AddRmsNorm(const AddRmsNormParams<T>& params, int64_t rows) override;
  void StoreRows(const StoreRowsParams<T>& params, int64_t rows) override;
  void PagedAttention(const AttentionParams<T>& params, int64_t groups) override;
  void SiluMultiply(const SiluMultiplyParams<T>& params, int64_t rows) override;
  void WidenLogits(const WidenLogitsParams<T>& params, int64_t rows) override;
  void FillRows(const FillRowsParams<T>& params, int64_t rows) override;
  void LinearRows(const LinearRowsParams<T>& params, int64_t rows) override;
  void MoveTokens(const MoveTokensParams<T>& params, int64_t layers) override;

 private:
  const cudaStream_t stream_;
};

}  // namespace strata::engine::cuda

#endif  // STRATA_SERVICES_VERIFY_ENGINE_CUDA_STREAM_LAUNCHER_H_
