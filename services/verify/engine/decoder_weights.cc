#include "services/verify/engine/decoder_weights.h"

#include <ATen/ATen.h>

#include <cstring>
#include <utility>

namespace strata::engine {
namespace {

at::ScalarType ScalarTypeOf(StoredType type) {
  switch (type) {
    case StoredType::kF32:
      return at::kFloat;
    case StoredType::kF16:
      return at::kHalf;
    case StoredType::kBf16:
      break;
  }
  return at::kBFloat16;
}

std::string LayerName(int64_t index) { return "model.layers." + std::to_string(index) + "."; }

}  // namespace

Result<std::unique_ptr<DecoderWeights>> DecoderWeights::Open(const std::string& model_dir,
                                                             const ModelConfig& config,
                                                             at::ScalarType type) {
  std::unique_ptr<DecoderWeights> weights(new DecoderWeights(config, type));
  auto checkpoint = Checkpoint::Open(model_dir);
  if (!checkpoint.ok()) return checkpoint.status();
  weights->checkpoint_ = std::move(*checkpoint);
  if (config.hidden_size % 16 != 0 || config.intermediate_size % 16 != 0) {
    return Status(ErrorCode::kUnimplemented,
                  model_dir + ": hidden_size and intermediate_size must be multiples of 16");
  }
  if (Status status = weights->CheckTensors(); !status.ok()) return status;
  return weights;
}

at::Tensor DecoderWeights::Embedding() {
  return Get("model.embed_tokens.weight", {config_.vocab_size, config_.hidden_size});
}

at::Tensor DecoderWeights::FinalNorm() {
  return Get("model.norm.weight", {config_.hidden_size}, at::kFloat);
}

at::Tensor DecoderWeights::Head() {
  if (config_.tie_word_embeddings) return Embedding();
  return Get("lm_head.weight", {config_.vocab_size, config_.hidden_size});
}

LayerWeights DecoderWeights::Layer(int64_t index) {
  const int64_t hidden = config_.hidden_size;
  const int64_t q_width = config_.heads * config_.head_dim;
  const int64_t kv_width = config_.kv_heads * config_.head_dim;
  const int64_t inner = config_.intermediate_size;
  const std::string name = LayerName(index);
  auto bias = [&](const std::string& projection, int64_t width, bool wanted) {
    return wanted ? Get(name + projection + ".bias", {width}) : at::Tensor();
  };
  auto joined_bias = [](std::initializer_list<at::Tensor> parts) {
    return parts.begin()->defined() ? at::cat(std::vector<at::Tensor>(parts)) : at::Tensor();
  };
  LayerWeights layer;
  layer.attention_norm = Get(name + "input_layernorm.weight", {hidden}, at::kFloat);
  layer.mlp_norm = Get(name + "post_attention_layernorm.weight", {hidden}, at::kFloat);
  layer.qkv.weight = at::cat({Get(name + "self_attn.q_proj.weight", {q_width, hidden}),
                              Get(name + "self_attn.k_proj.weight", {kv_width, hidden}),
                              Get(name + "self_attn.v_proj.weight", {kv_width, hidden})});
  layer.qkv.bias = joined_bias({bias("self_attn.q_proj", q_width, config_.qkv_bias),
                                bias("self_attn.k_proj", kv_width, config_.qkv_bias),
                                bias("self_attn.v_proj", kv_width, config_.qkv_bias)});
  layer.output.weight = Get(name + "self_attn.o_proj.weight", {hidden, q_width});
  layer.output.bias = bias("self_attn.o_proj", hidden, config_.output_bias);
  layer.gate_up.weight = at::cat({Get(name + "mlp.gate_proj.weight", {inner, hidden}),
                                  Get(name + "mlp.up_proj.weight", {inner, hidden})});
  layer.gate_up.bias = joined_bias({bias("mlp.gate_proj", inner, config_.mlp_bias),
                                    bias("mlp.up_proj", inner, config_.mlp_bias)});
  layer.down.weight = Get(name + "mlp.down_proj.weight", {hidden, inner});
  layer.down.bias = bias("mlp.down_proj", hidden, config_.mlp_bias);
  return layer;
}

at::Tensor DecoderWeights::Get(const std::string& name, const std::vector<int64_t>& shape,
                               at::ScalarType type) {
  auto stored = checkpoint_->Get(name, shape);
  if (!stored.ok()) {
    if (status_.ok()) status_ = stored.status();
    return at::zeros(shape, at::TensorOptions().dtype(type));
  }
  at::Tensor tensor = at::empty(shape, at::TensorOptions().dtype(ScalarTypeOf(stored->type)));
  std::memcpy(tensor.data_ptr(), stored->data, stored->bytes);
  return tensor.to(type);
}

Status DecoderWeights::CheckTensors() const {
  const int64_t hidden = config_.hidden_size;
  const int64_t q_width = config_.heads * config_.head_dim;
  const int64_t kv_width = config_.kv_heads * config_.head_dim;
  const int64_t inner = config_.intermediate_size;
  Status status;
  auto expect = [&](const std::string& name, const std::vector<int64_t>& shape) {
    if (!status.ok()) return;
    if (auto stored = checkpoint_->Get(name, shape); !stored.ok()) status = stored.status();
  };
  expect("model.embed_tokens.weight", {config_.vocab_size, hidden});
  expect("model.norm.weight", {hidden});
  if (!config_.tie_word_embeddings) expect("lm_head.weight", {config_.vocab_size, hidden});
  for (int64_t i = 0; i < config_.layers && status.ok(); ++i) {
    const std::string name = LayerName(i);
    expect(name + "input_layernorm.weight", {hidden});
    expect(name + "post_attention_layernorm.weight", {hidden});
    expect(name + "self_attn.q_proj.weight", {q_width, hidden});
    expect(name + "self_attn.k_proj.weight", {kv_width, hidden});
    expect(name + "self_attn.v_proj.weight", {kv_width, hidden});
    expect(name + "self_attn.o_proj.weight", {hidden, q_width});
    expect(name + "mlp.gate_proj.weight", {inner, hidden});
    expect(name + "mlp.up_proj.weight", {inner, hidden});
    expect(name + "mlp.down_proj.weight", {hidden, inner});
  }
  return status;
}

}  // namespace strata::engine
