#ifndef STRATA_SERVICES_VERIFY_ENGINE_CUDA_BLOCK_LINEAR_H_
#define STRATA_SERVICES_VERIFY_ENGINE_CUDA_BLOCK_LINEAR_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "services/verify/engine/cuda/decoder_pass.h"
#include "services/verify/engine/decoder_weights.h"

namespace strata::engine::cuda {

// A linear layer by cuBLAS, on the current CUDA stream.
//
// Row invariance: cuBLAS chooses its kernel by the sizes of a product and the alignment of its
// operands, so rows go to it in blocks of kLinearRows. Nothing says that such a kernel treats all
// rows of a block alike; CheckRowInvariance tries it on the device at hand. If it does not hold,
// UseRows() makes it hold by construction.
//
// Larger blocks read the weights less often. Most kernels add up a row in the same order whatever
// the number of rows, but where cuBLAS splits sums among several blocks of threads, the number of
// parts may change: FindLargerBlocks tries which larger ones give the same bits.
template <typename T>
class BlockLinear final : public Linear<T> {
 public:
  // Tensors of type T on the device; in_features is a multiple of 16.
  BlockLinear(LinearWeights weights, Launcher<T>& launcher);

  void Forward(const T* x, int64_t rows, T* y) const override;

  // Runs random rows at other places, beside other rows and alone, and compares every bit.
  bool CheckRowInvariance() const;
  // From now on each row is computed by itself (kernel LinearRows), several times slower.
  void UseRows() { use_rows_ = true; }

  // The larger blocks (kLargerBlocks) whose rows have the bits that they have in one of
  // kLinearRows.
  std::vector<int64_t> FindLargerBlocks() const;
  // From now on takes them, where there are as many rows. As FindLargerBlocks of this layer or of
  // another of its shape returned them.
  void UseLargerBlocks(std::vector<int64_t> blocks) { larger_blocks_ = std::move(blocks); }

  int64_t in_features() const { return in_; }
  int64_t out_features() const { return out_; }

 private:
  at::Tensor Run(const at::Tensor& x) const;
  // One product.
  void Multiply(const T* x, int64_t rows, T* y) const;

  const at::Tensor weight_;
  const at::Tensor bias_;
  const int64_t in_;
  const int64_t out_;
  const RowLinear<T> rows_;
  Launcher<T>& launcher_;
  bool use_rows_ = false;
  std::vector<int64_t> larger_blocks_;
};

// Sets, for the whole process, how cuBLAS may compute: fp32 in fp32 (no TF32), sums of bf16 in
// fp32.
void UseFullPrecision();

}  // namespace strata::engine::cuda

#endif  // STRATA_SERVICES_VERIFY_ENGINE_CUDA_BLOCK_LINEAR_H_
