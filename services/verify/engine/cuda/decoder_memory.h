#ifndef STRATA_SERVICES_VERIFY_ENGINE_CUDA_DECODER_MEMORY_H_
#define STRATA_SERVICES_VERIFY_ENGINE_CUDA_DECODER_MEMORY_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "services/verify/engine/config.h"
#include "services/verify/engine/cuda/decoder_pass.h"
#include "services/verify/engine/decoder_weights.h"
#include "services/verify/engine/model.h"
#include "services/verify/engine/status.h"

namespace strata::engine::cuda {

// All memory that a DecoderPass works on, as tensors of one device (the CPU's in tests).
template <typename T>
class DecoderMemory {
 public:
  using Pass = DecoderPass<T>;
  // Makes a linear layer of weights on the device; the caller keeps the layer.
  using MakeLinear = std::function<const Linear<T>*(LinearWeights weights)>;

  // Reads the weights and makes room for options.kv_pages pages. Fails as Model::Load does; throws
  // c10::OutOfMemoryError where there is no room for the weights.
  static Result<std::unique_ptr<DecoderMemory>> Load(const ModelOptions& options,
                                                     const ModelConfig& config, at::Device device,
                                                     const MakeLinear& make_linear);

  const typename Pass::Shape& shape() const { return shape_; }
  const typename Pass::Weights& weights() const { return weights_; }
  const typename Pass::Buffers& buffers() const { return buffers_; }
  T* cache() const { return cache_; }
  // What buffers() and cache() point to.
  const std::vector<at::Tensor>& scratch() const { return scratch_; }

 private:
  static constexpr at::ScalarType kType = sizeof(T) == 4 ? at::kFloat : at::kBFloat16;

  explicit DecoderMemory(at::Device device) : device_(device) {}
  Status LoadWeights(const ModelOptions& options, const ModelConfig& config,
                     const MakeLinear& make_linear);
  void MakeBuffers();
  at::Tensor OnDevice(const at::Tensor& tensor) const;
  template <typename Element>
  const Element* Keep(const at::Tensor& tensor);
  template <typename Element>
  Element* NewScratch(at::IntArrayRef sizes);

  const at::Device device_;
  typename Pass::Shape shape_;
  typename Pass::Weights weights_;
  typename Pass::Buffers buffers_;
  T* cache_ = nullptr;
  std::vector<at::Tensor> kept_;
  std::vector<at::Tensor> scratch_;
};

}  // namespace strata::engine::cuda

#endif  // STRATA_SERVICES_VERIFY_ENGINE_CUDA_DECODER_MEMORY_H_
