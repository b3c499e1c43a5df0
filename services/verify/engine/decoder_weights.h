#ifndef STRATA_SERVICES_VERIFY_ENGINE_DECODER_WEIGHTS_H_
#define STRATA_SERVICES_VERIFY_ENGINE_DECODER_WEIGHTS_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "services/verify/engine/config.h"
#include "services/verify/engine/safetensors.h"
#include "services/verify/engine/status.h"

namespace strata::engine {

// y = x weight^T + bias. weight: [out, in]; bias: [out] or undefined.
struct LinearWeights {
  at::Tensor weight;
  at::Tensor bias;
};

// One layer, with those projections joined that have the same input.
struct LayerWeights {
  at::Tensor attention_norm;  // fp32 [hidden]
  at::Tensor mlp_norm;        // fp32 [hidden]
  LinearWeights qkv;          // [(heads + 2 kv_heads) * head_dim, hidden]: q, k, v
  LinearWeights output;       // [hidden, heads * head_dim]
  LinearWeights gate_up;      // [2 * intermediate, hidden]: gate, up
  LinearWeights down;         // [hidden, intermediate]
};

// Reads the weights of a decoder of the Llama family from its folder, tensor by tensor, so that
// no more of them is in memory than the caller keeps. All tensors are contiguous, in the CPU's
// memory and in `type` where nothing else is said. Not thread-safe.
class DecoderWeights {
 public:
  // Also checks that every weight is there in the shape that the config says, before room is made
  // for any: a config may claim sizes that no file has. NOT_FOUND, INVALID_ARGUMENT; UNIMPLEMENTED
  // for sizes that the kernels do not take.
  static Result<std::unique_ptr<DecoderWeights>> Open(const std::string& model_dir,
                                                      const ModelConfig& config,
                                                      at::ScalarType type);

  at::Tensor Embedding();  // [vocab, hidden]
  at::Tensor FinalNorm();  // fp32 [hidden]
  at::Tensor Head();       // [vocab, hidden]: the embedding again where they are tied
  LayerWeights Layer(int64_t index);

  // The first fault of a read so far; what was read since is zeros.
  const Status& status() const { return status_; }

 private:
  DecoderWeights(const ModelConfig& config, at::ScalarType type) : config_(config), type_(type) {}
  Status CheckTensors() const;
  at::Tensor Get(const std::string& name, const std::vector<int64_t>& shape, at::ScalarType type);
  at::Tensor Get(const std::string& name, const std::vector<int64_t>& shape) {
    return Get(name, shape, type_);
  }

  const ModelConfig config_;
  const at::ScalarType type_;
  std::unique_ptr<Checkpoint> checkpoint_;
  Status status_;
};

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_DECODER_WEIGHTS_H_
