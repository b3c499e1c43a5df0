#include "services/verify/engine/model.h"

#include <ATen/ATen.h>

#include <cmath>
#include <cstring>
#include <map>
#include <optional>
#include <tuple>
#include <utility>

#include "services/verify/engine/kernels.h"
#include "services/verify/engine/linear.h"
#include "services/verify/engine/parallel.h"
#include "services/verify/engine/ranking.h"
#include "services/verify/engine/safetensors.h"

namespace strata::engine {
namespace {

struct Layer {
  at::Tensor attention_norm;  // fp32 [hidden]
  at::Tensor mlp_norm;
  std::optional<PackedLinear> qkv;      // [(heads + 2 kv_heads) * head_dim, hidden]
  std::optional<PackedLinear> output;   // [hidden, heads * head_dim]
  std::optional<PackedLinear> gate_up;  // [2 * intermediate, hidden]
  std::optional<PackedLinear> down;     // [hidden, intermediate]
};

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

// Reads named tensors in a wanted type; remembers the first fault.
class Weights {
 public:
  Weights(const Checkpoint& checkpoint, at::ScalarType type)
      : checkpoint_(checkpoint), type_(type) {}

  at::Tensor Get(const std::string& name, const std::vector<int64_t>& shape) {
    return Get(name, shape, type_);
  }
  at::Tensor Get(const std::string& name, const std::vector<int64_t>& shape, at::ScalarType type) {
    auto stored = checkpoint_.Get(name, shape);
    if (!stored.ok()) {
      if (status_.ok()) status_ = stored.status();
      return at::zeros(shape, at::TensorOptions().dtype(type));
    }
    at::Tensor tensor = at::empty(shape, at::TensorOptions().dtype(ScalarTypeOf(stored->type)));
    std::memcpy(tensor.data_ptr(), stored->data, stored->bytes);
    return tensor.to(type);
  }
  const Status& status() const { return status_; }

 private:
  const Checkpoint& checkpoint_;
  const at::ScalarType type_;
  Status status_;
};

template <typename T>
T* Data(const at::Tensor& tensor) {
  return static_cast<T*>(tensor.data_ptr());
}

// T: float or Bf16, the type of weights, activations and cache.
template <typename T>
class DecoderModel final : public Model {
 public:
  DecoderModel(ModelConfig config, WeightType weight_type, int64_t max_positions)
      : config_(std::move(config)), weight_type_(weight_type), max_positions_(max_positions) {}

  Status Load(const std::string& model_dir) {
    auto checkpoint = Checkpoint::Open(model_dir);
    if (!checkpoint.ok()) return checkpoint.status();
    Weights weights(**checkpoint, kType);
    const int64_t hidden = config_.hidden_size;
    const int64_t q_width = config_.heads * config_.head_dim;
    const int64_t kv_width = config_.kv_heads * config_.head_dim;
    const int64_t inner = config_.intermediate_size;
    if (hidden % 16 != 0 || inner % 16 != 0) {
      return Status(ErrorCode::kUnimplemented,
                    model_dir + ": hidden_size and intermediate_size must be multiples of 16");
    }

    if (Status status = CheckTensors(**checkpoint); !status.ok()) return status;

    embedding_ = weights.Get("model.embed_tokens.weight", {config_.vocab_size, hidden});
    final_norm_ = weights.Get("model.norm.weight", {hidden}, at::kFloat);
    if (config_.tie_word_embeddings) {
      head_.emplace(embedding_, at::Tensor(), weight_type_);
    } else {
      head_.emplace(weights.Get("lm_head.weight", {config_.vocab_size, hidden}), at::Tensor(),
                    weight_type_);
    }
    layers_.resize(config_.layers);
    for (int64_t i = 0; i < config_.layers; ++i) {
      Layer& layer = layers_[i];
      const std::string name = "model.layers." + std::to_string(i) + ".";
      auto bias = [&](const std::string& projection, int64_t width, bool wanted) {
        return wanted ? weights.Get(name + projection + ".bias", {width}) : at::Tensor();
      };
      auto joined_bias = [](std::initializer_list<at::Tensor> parts) {
        return parts.begin()->defined() ? at::cat(std::vector<at::Tensor>(parts)) : at::Tensor();
      };
      layer.attention_norm = weights.Get(name + "input_layernorm.weight", {hidden}, at::kFloat);
      layer.mlp_norm = weights.Get(name + "post_attention_layernorm.weight", {hidden}, at::kFloat);
      layer.qkv.emplace(
          at::cat({weights.Get(name + "self_attn.q_proj.weight", {q_width, hidden}),
                   weights.Get(name + "self_attn.k_proj.weight", {kv_width, hidden}),
                   weights.Get(name + "self_attn.v_proj.weight", {kv_width, hidden})}),
          joined_bias({bias("self_attn.q_proj", q_width, config_.qkv_bias),
                       bias("self_attn.k_proj", kv_width, config_.qkv_bias),
                       bias("self_attn.v_proj", kv_width, config_.qkv_bias)}),
          weight_type_);
      layer.output.emplace(weights.Get(name + "self_attn.o_proj.weight", {hidden, q_width}),
                           bias("self_attn.o_proj", hidden, config_.output_bias), weight_type_);
      layer.gate_up.emplace(at::cat({weights.Get(name + "mlp.gate_proj.weight", {inner, hidden}),
                                     weights.Get(name + "mlp.up_proj.weight", {inner, hidden})}),
                            joined_bias({bias("mlp.gate_proj", inner, config_.mlp_bias),
                                         bias("mlp.up_proj", inner, config_.mlp_bias)}),
                            weight_type_);
      layer.down.emplace(weights.Get(name + "mlp.down_proj.weight", {hidden, inner}),
                         bias("mlp.down_proj", hidden, config_.mlp_bias), weight_type_);
      if (!weights.status().ok()) return weights.status();
    }
    if (!weights.status().ok()) return weights.status();
    MakeRotations();
    return Status();
  }

  void Forward(std::span<const ModelRow> rows, std::span<const AttentionRow> attention,
               std::span<const int32_t> logit_rows, KvCache& cache, float* logits,
               float* block_max) override {
    const int64_t count = static_cast<int64_t>(rows.size());
    // One row alone would take another path through oneDNN: see PackedLinear.
    const int64_t padded = std::max<int64_t>(count, 2);
    const int64_t hidden = config_.hidden_size;
    const int64_t q_width = config_.heads * config_.head_dim;
    const auto options = at::TensorOptions().dtype(kType);

    at::Tensor residual = at::zeros({padded, hidden}, at::kFloat);
    at::Tensor x = at::zeros({padded, hidden}, options);
    at::Tensor q = at::empty({count, q_width}, at::kFloat);
    at::Tensor mixed = at::zeros({padded, q_width}, options);
    at::Tensor activated = at::zeros({padded, config_.intermediate_size}, options);
    float* h = Data<float>(residual);
    for (int64_t r = 0; r < count; ++r) {
      Widen(Data<T>(embedding_) + rows[r].token * hidden, hidden, h + r * hidden);
    }

    const AttentionShape shape{config_.heads, config_.kv_heads, config_.head_dim};
    const float eps = static_cast<float>(config_.rms_norm_eps);
    at::Tensor delta;  // what the last block adds to the residual stream
    for (int64_t i = 0; i < config_.layers; ++i) {
      const Layer& layer = layers_[i];
      AddRmsNorm(delta.defined() ? Data<T>(delta) : nullptr, Data<float>(layer.attention_norm), eps,
                 count, hidden, h, Data<T>(x));
      const at::Tensor qkv = layer.qkv->Forward(x);
      StoreRows(rows, i, Data<T>(qkv), Data<float>(q), cache);
      PagedAttention(shape, i, attention, Data<float>(q), cache, Data<T>(mixed));
      delta = layer.output->Forward(mixed);
      AddRmsNorm(Data<T>(delta), Data<float>(layer.mlp_norm), eps, count, hidden, h, Data<T>(x));
      const at::Tensor gate_up = layer.gate_up->Forward(x);
      SiluMultiply(Data<T>(gate_up), count, config_.intermediate_size, Data<T>(activated));
      delta = layer.down->Forward(activated);
    }
    if (!logit_rows.empty()) Logits(Data<T>(delta), h, logit_rows, logits, block_max);
  }

  std::vector<std::string> EnsureRowInvariance() override {
    std::vector<std::string> notes;
    // Layers of one shape run the same kernel.
    std::map<std::pair<int64_t, int64_t>, bool> known;
    auto ensure = [&](PackedLinear& linear) {
      const auto shape = std::make_pair(linear.out_features(), linear.in_features());
      auto it = known.find(shape);
      if (it == known.end()) {
        it = known.emplace(shape, linear.CheckRowInvariance()).first;
        if (!it->second) {
          notes.push_back("linear layers of " + std::to_string(shape.first) + " x " +
                          std::to_string(shape.second) +
                          " are not row-invariant on this machine: computed in pairs of rows");
        }
      }
      if (!it->second) linear.UsePairs();
    };
    for (Layer& layer : layers_) {
      ensure(*layer.qkv);
      ensure(*layer.output);
      ensure(*layer.gate_up);
      ensure(*layer.down);
    }
    ensure(*head_);
    return notes;
  }

 private:
  static constexpr at::ScalarType kType = sizeof(T) == 4 ? at::kFloat : at::kBFloat16;

  // Whether all is there in the shapes that the config says, before room is made for any of it:
  // a config may claim sizes that no file has.
  Status CheckTensors(const Checkpoint& checkpoint) const {
    const int64_t hidden = config_.hidden_size;
    const int64_t q_width = config_.heads * config_.head_dim;
    const int64_t kv_width = config_.kv_heads * config_.head_dim;
    const int64_t inner = config_.intermediate_size;
    Status status;
    auto expect = [&](const std::string& name, const std::vector<int64_t>& shape) {
      if (!status.ok()) return;
      if (auto stored = checkpoint.Get(name, shape); !stored.ok()) status = stored.status();
    };
    expect("model.embed_tokens.weight", {config_.vocab_size, hidden});
    expect("model.norm.weight", {hidden});
    if (!config_.tie_word_embeddings) expect("lm_head.weight", {config_.vocab_size, hidden});
    for (int64_t i = 0; i < config_.layers && status.ok(); ++i) {
      const std::string name = "model.layers." + std::to_string(i) + ".";
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

  void MakeRotations() {
    const int64_t half = config_.head_dim / 2;
    cosine_.resize(max_positions_ * half);
    sine_.resize(max_positions_ * half);
    for (int64_t p = 0; p < max_positions_; ++p) {
      for (int64_t i = 0; i < half; ++i) {
        const float angle = static_cast<float>(p) * config_.rope_inverse_frequencies[i];
        cosine_[p * half + i] = std::cos(angle);
        sine_[p * half + i] = std::sin(angle);
      }
    }
  }

  // Rotates queries and keys; keys and values go to the cache, scaled queries to q.
  void StoreRows(std::span<const ModelRow> rows, int64_t layer, const T* qkv, float* q,
                 KvCache& cache) {
    const int64_t dim = config_.head_dim;
    const int64_t half = dim / 2;
    const int64_t q_width = config_.heads * dim;
    const int64_t width = q_width + 2 * config_.kv_heads * dim;
    const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
    ParallelFor(rows.size(), 16, [&](int64_t begin, int64_t end) {
      std::vector<float> key(dim);
      for (int64_t r = begin; r < end; ++r) {
        const ModelRow& row = rows[r];
        const float* cosine = cosine_.data() + row.position * half;
        const float* sine = sine_.data() + row.position * half;
        const T* from = qkv + r * width;
        float* to = q + r * q_width;
        Widen(from, q_width, to);
        for (int64_t head = 0; head < config_.heads; ++head) {
          RotateHalves(cosine, sine, dim, to + head * dim);
        }
        for (int64_t i = 0; i < q_width; ++i) to[i] *= scale;
        const T* keys = from + q_width;
        const T* values = keys + config_.kv_heads * dim;
        for (int64_t head = 0; head < config_.kv_heads; ++head) {
          Widen(keys + head * dim, dim, key.data());
          RotateHalves(cosine, sine, dim, key.data());
          T* key_to = reinterpret_cast<T*>(cache.Keys(layer, row.page, head)) + row.slot;
          for (int64_t d = 0; d < dim; ++d) FromFloat(key[d], key_to[d * kPageTokens]);
          std::memcpy(reinterpret_cast<T*>(cache.Values(layer, row.page, head)) + row.slot * dim,
                      values + head * dim, dim * sizeof(T));
        }
      }
    });
  }

  void Logits(const T* delta, float* h, std::span<const int32_t> logit_rows, float* logits,
              float* block_max) {
    const int64_t count = static_cast<int64_t>(logit_rows.size());
    const int64_t hidden = config_.hidden_size;
    const auto options = at::TensorOptions().dtype(kType);
    at::Tensor x = at::zeros({std::max<int64_t>(count, 2), hidden}, options);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t r = logit_rows[i];
      AddRmsNorm(delta + r * hidden, Data<float>(final_norm_),
                 static_cast<float>(config_.rms_norm_eps), 1, hidden, h + r * hidden,
                 Data<T>(x) + i * hidden);
    }
    const at::Tensor y = head_->Forward(x);
    const T* from = Data<T>(y);
    const int64_t vocab = config_.vocab_size;
    const int64_t blocks = LogitBlocks(vocab);
    ParallelFor(count * blocks, (1 << 18) / kLogitBlock, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t first = i % blocks * kLogitBlock;
        const int64_t size = std::min(kLogitBlock, vocab - first);
        const int64_t at = i / blocks * vocab + first;
        Widen(from + at, size, logits + at);
        BlockMaxima({logits + at, static_cast<size_t>(size)}, block_max + i);
      }
    });
  }

  const ModelConfig config_;
  const WeightType weight_type_;
  const int64_t max_positions_;
  at::Tensor embedding_;   // T [vocab, hidden]
  at::Tensor final_norm_;  // fp32 [hidden]
  std::optional<PackedLinear> head_;
  std::vector<Layer> layers_;
  std::vector<float> cosine_;  // [max_positions, head_dim / 2]
  std::vector<float> sine_;
};

template <typename T>
Result<std::unique_ptr<Model>> LoadAs(const std::string& model_dir, const ModelConfig& config,
                                      WeightType weight_type, int64_t max_positions) {
  auto model = std::make_unique<DecoderModel<T>>(config, weight_type, max_positions);
  if (Status status = model->Load(model_dir); !status.ok()) return status;
  return std::unique_ptr<Model>(std::move(model));
}

}  // namespace

Result<std::unique_ptr<Model>> Model::Load(const std::string& model_dir, const ModelConfig& config,
                                           bool bf16, bool int8_weights, int64_t max_positions) {
  const WeightType weights = int8_weights ? WeightType::kInt8 : WeightType::kNative;
  return bf16 ? LoadAs<Bf16>(model_dir, config, weights, max_positions)
              : LoadAs<float>(model_dir, config, weights, max_positions);
}

}  // namespace strata::engine
