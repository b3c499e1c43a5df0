#ifndef STRATA_SERVICES_VERIFY_ENGINE_CUDA_DECODER_PASS_H_
#define STRATA_SERVICES_VERIFY_ENGINE_CUDA_DECODER_PASS_H_

#include <cstdint>
#include <span>
#include <vector>

#include "services/verify/engine/cuda/kv_layout.h"
#include "services/verify/engine/cuda/launcher.h"
#include "services/verify/engine/cuda/step.h"

namespace strata::engine::cuda {

// Rows of the smallest matrix product: a linear layer multiplies this many at least, padded where a
// step has fewer, so that the library takes the same kernel whatever the batch. 64 rows of a
// product are about as fast as one (the time goes into reading weights), and a draft tree of a step
// or two fits.
inline constexpr int64_t kLinearRows = 64;
static_assert(kStepRows % kLinearRows == 0);
// Rows whose logits are computed at once: there is room for as many times the vocabulary.
inline constexpr int64_t kHeadRows = 256;
static_assert(kHeadRows % kLinearRows == 0);

// y = x weight^T + bias. A row of y depends on that row of x alone, whatever its place.
template <typename T>
class Linear {
 public:
  virtual ~Linear() = default;
  // x: [rows, in]; y: [rows, out]; rows is a multiple of kLinearRows.
  virtual void Forward(const T* x, int64_t rows, T* y) const = 0;
};

// The sequence of kernels that is a step of a decoder of the Llama family, on memory that somebody
// else owns: nothing here knows whether a GPU runs it. T: float or Bf16.
template <typename T>
class DecoderPass {
 public:
  struct Shape {
    int64_t vocab = 0;
    int64_t hidden = 0;
    int64_t inner = 0;
    int64_t heads = 0;
    float rms_norm_eps = 0;
    KvLayout layout;
  };
  struct Layer {
    const float* attention_norm = nullptr;
    const float* mlp_norm = nullptr;
    // As in LayerWeights.
    const Linear<T>* qkv = nullptr;
    const Linear<T>* output = nullptr;
    const Linear<T>* gate_up = nullptr;
    const Linear<T>* down = nullptr;
  };
  struct Weights {
    const T* embedding = nullptr;
    const float* final_norm = nullptr;
    const Linear<T>* head = nullptr;
    std::vector<Layer> layers;
    const float* cosine = nullptr;
    const float* sine = nullptr;
  };
  // Zeroed at first; kStepRows rows each, the last four kHeadRows.
  struct Buffers {
    float* residual = nullptr;   // [rows, hidden]
    T* x = nullptr;              // [rows, hidden]
    T* qkv = nullptr;            // [rows, (heads + 2 kv_heads) * head_dim]
    float* q = nullptr;          // [rows, heads * head_dim]
    T* mixed = nullptr;          // [rows, heads * head_dim]
    T* delta = nullptr;          // [rows, hidden]
    T* gate_up = nullptr;        // [rows, 2 * inner]
    T* activated = nullptr;      // [rows, inner]
    T* head_x = nullptr;         // [rows, hidden]
    T* head_y = nullptr;         // [rows, vocab]
    float* logits = nullptr;     // [rows, vocab]
    float* block_max = nullptr;  // [rows, LogitBlocks(vocab)]
  };

  // cache: layout.LayerSize() elements a layer.
  DecoderPass(const Shape& shape, Weights weights, const Buffers& buffers, T* cache,
              Launcher<T>& launcher);

  // All layers for the rows of a step, which has as many rows and groups as `grid` says or fewer:
  // what is past those changes nothing that anybody reads. step: in the memory of the kernels.
  void RunLayers(const StepInput* step, const StepGrid& grid);

  // After RunLayers: the logits of the rows step->logit_rows[first .. first + count), and their
  // block maxima, to the buffers. 0 < count <= kHeadRows. Once for each row.
  void RunHead(const StepInput* step, int64_t first, int64_t count);

  // Copies tokens in the cache, one move after the other.
  void MoveTokens(std::span<const KvMove> moves);

 private:
  const Shape shape_;
  const Weights weights_;
  const Buffers buffers_;
  T* const cache_;
  Launcher<T>& launcher_;
};

// A linear layer by the kernel LinearRows. weight: [out, in]; bias: [out] or null; in the memory of
// the kernels, and kept by the caller.
template <typename T>
class RowLinear final : public Linear<T> {
 public:
  RowLinear(const T* weight, const T* bias, int64_t in, int64_t out, Launcher<T>& launcher)
      : weight_(weight), bias_(bias), in_(in), out_(out), launcher_(launcher) {}
  void Forward(const T* x, int64_t rows, T* y) const override {
    launcher_.LinearRows({x, weight_, bias_, in_, out_, y}, rows);
  }

 private:
  const T* const weight_;
  const T* const bias_;
  const int64_t in_;
  const int64_t out_;
  Launcher<T>& launcher_;
};

}  // namespace strata::engine::cuda

#endif  // STRATA_SERVICES_VERIFY_ENGINE_CUDA_DECODER_PASS_H_
