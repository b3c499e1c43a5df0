#include "services/verify/engine/cuda/decoder_memory.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include <type_traits>
#include <utility>

#include "services/verify/engine/kv_cache.h"
#include "services/verify/engine/ranking.h"
#include "services/verify/engine/rotary.h"

namespace strata::engine::cuda {

template <typename T>
Result<std::unique_ptr<DecoderMemory<T>>> DecoderMemory<T>::Load(const ModelOptions& options,
                                                                 const ModelConfig& config,
                                                                 at::Device device,
                                                                 const MakeLinear& make_linear) {
  std::unique_ptr<DecoderMemory> memory(new DecoderMemory(device));
  typename Pass::Shape& shape = memory->shape_;
  shape.vocab = config.vocab_size;
  shape.hidden = config.hidden_size;
  shape.inner = config.intermediate_size;
  shape.heads = config.heads;
  shape.rms_norm_eps = static_cast<float>(config.rms_norm_eps);
  shape.layout = {options.kv_pages, config.kv_heads, config.head_dim};
  if (Status status = memory->LoadWeights(options, config, make_linear); !status.ok()) {
    return status;
  }
  memory->MakeBuffers();
  const int64_t cache_size = config.layers * shape.layout.LayerSize();
  try {
    memory->cache_ = memory->template NewScratch<T>({cache_size});
  } catch (const c10::OutOfMemoryError&) {
    return NoRoomForKvCache(options.kv_pages, cache_size * static_cast<int64_t>(sizeof(T)));
  }
  return memory;
}

template <typename T>
Status DecoderMemory<T>::LoadWeights(const ModelOptions& options, const ModelConfig& config,
                                     const MakeLinear& make_linear) {
  auto opened = DecoderWeights::Open(options.model_dir, config, kType);
  if (!opened.ok()) return opened.status();
  DecoderWeights& from = **opened;
  const auto linear = [&](const LinearWeights& weights) {
    return make_linear(
        {OnDevice(weights.weight), weights.bias.defined() ? OnDevice(weights.bias) : at::Tensor()});
  };
  // Nothing is made of weights that were not there: their tensors are undefined.
  const at::Tensor read_embedding = from.Embedding(), read_norm = from.FinalNorm();
  const at::Tensor head = config.tie_word_embeddings ? at::Tensor() : from.Head();
  if (!from.status().ok()) return from.status();
  const at::Tensor embedding = OnDevice(read_embedding);
  weights_.embedding = Keep<T>(embedding);
  weights_.final_norm = Keep<float>(read_norm);
  weights_.head = linear({config.tie_word_embeddings ? embedding : head, at::Tensor()});
  for (int64_t i = 0; i < config.layers; ++i) {
    const LayerWeights layer = from.Layer(i);
    if (!from.status().ok()) return from.status();
    weights_.layers.push_back({Keep<float>(layer.attention_norm), Keep<float>(layer.mlp_norm),
                               linear(layer.qkv), linear(layer.output), linear(layer.gate_up),
                               linear(layer.down)});
  }
  RotaryTable rotary = MakeRotaryTable(config.rope_inverse_frequencies, options.max_positions);
  const auto floats = [](std::vector<float>& values) {
    return at::from_blob(values.data(), {static_cast<int64_t>(values.size())}).clone();
  };
  weights_.cosine = Keep<float>(floats(rotary.cosine));
  weights_.sine = Keep<float>(floats(rotary.sine));
  return Status();
}

template <typename T>
void DecoderMemory<T>::MakeBuffers() {
  const int64_t q_width = shape_.heads * shape_.layout.head_dim;
  const int64_t kv_width = shape_.layout.kv_heads * shape_.layout.head_dim;
  typename Pass::Buffers& b = buffers_;
  b.residual = NewScratch<float>({kStepRows, shape_.hidden});
  b.x = NewScratch<T>({kStepRows, shape_.hidden});
  b.qkv = NewScratch<T>({kStepRows, q_width + 2 * kv_width});
  b.q = NewScratch<float>({kStepRows, q_width});
  b.mixed = NewScratch<T>({kStepRows, q_width});
  b.delta = NewScratch<T>({kStepRows, shape_.hidden});
  b.gate_up = NewScratch<T>({kStepRows, 2 * shape_.inner});
  b.activated = NewScratch<T>({kStepRows, shape_.inner});
  b.head_x = NewScratch<T>({kHeadRows, shape_.hidden});
  b.head_y = NewScratch<T>({kHeadRows, shape_.vocab});
  b.logits = NewScratch<float>({kHeadRows, shape_.vocab});
  b.block_max = NewScratch<float>({kHeadRows, LogitBlocks(shape_.vocab)});
}

template <typename T>
at::Tensor DecoderMemory<T>::OnDevice(const at::Tensor& tensor) const {
  return tensor.to(device_).contiguous();
}

template <typename T>
template <typename Element>
const Element* DecoderMemory<T>::Keep(const at::Tensor& tensor) {
  return static_cast<const Element*>(kept_.emplace_back(OnDevice(tensor)).const_data_ptr());
}

template <typename T>
template <typename Element>
Element* DecoderMemory<T>::NewScratch(at::IntArrayRef sizes) {
  const auto type = std::is_same_v<Element, float> ? at::kFloat : kType;
  const auto options = at::TensorOptions().dtype(type).device(device_);
  return static_cast<Element*>(scratch_.emplace_back(at::zeros(sizes, options)).data_ptr());
}

template class DecoderMemory<float>;
template class DecoderMemory<Bf16>;

}  // namespace strata::engine::cuda
