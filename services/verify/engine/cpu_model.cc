#include "services/verify/engine/cpu_model.h"

#include <ATen/ATen.h>

#include <cmath>
#include <cstring>
#include <optional>
#include <utility>

#include "services/verify/engine/attention.h"
#include "services/verify/engine/decoder_weights.h"
#include "services/verify/engine/kernels.h"
#include "services/verify/engine/kv_cache.h"
#include "services/verify/engine/linear.h"
#include "services/verify/engine/parallel.h"
#include "services/verify/engine/ranking.h"
#include "services/verify/engine/rotary.h"
#include "services/verify/engine/row_invariance.h"

namespace strata::engine {
namespace {

// LayerWeights, packed.
struct Layer {
  at::Tensor attention_norm;
  at::Tensor mlp_norm;
  std::optional<PackedLinear> qkv;
  std::optional<PackedLinear> output;
  std::optional<PackedLinear> gate_up;
  std::optional<PackedLinear> down;
};

template <typename T>
T* Data(const at::Tensor& tensor) {
  return static_cast<T*>(tensor.data_ptr());
}

// T: float or Bf16, the type of weights, activations and cache.
template <typename T>
class CpuModel final : public Model {
 public:
  CpuModel(ModelConfig config, WeightType weight_type)
      : config_(std::move(config)), weight_type_(weight_type) {}

  Status Load(const ModelOptions& options) {
    auto opened = DecoderWeights::Open(options.model_dir, config_, kType);
    if (!opened.ok()) return opened.status();
    DecoderWeights& weights = **opened;
    embedding_ = weights.Embedding();
    final_norm_ = weights.FinalNorm();
    head_.emplace(config_.tie_word_embeddings ? embedding_ : weights.Head(), at::Tensor(),
                  weight_type_);
    layers_.resize(config_.layers);
    for (int64_t i = 0; i < config_.layers; ++i) {
      const LayerWeights from = weights.Layer(i);
      Layer& layer = layers_[i];
      layer.attention_norm = from.attention_norm;
      layer.mlp_norm = from.mlp_norm;
      layer.qkv.emplace(from.qkv.weight, from.qkv.bias, weight_type_);
      layer.output.emplace(from.output.weight, from.output.bias, weight_type_);
      layer.gate_up.emplace(from.gate_up.weight, from.gate_up.bias, weight_type_);
      layer.down.emplace(from.down.weight, from.down.bias, weight_type_);
      if (!weights.status().ok()) return weights.status();
    }
    if (!weights.status().ok()) return weights.status();
    rotary_ = MakeRotaryTable(config_.rope_inverse_frequencies, options.max_positions);
    auto cache = KvCache::Create(options.kv_pages, config_.layers, config_.kv_heads,
                                 config_.head_dim, sizeof(T));
    if (!cache.ok()) return cache.status();
    cache_ = std::move(*cache);
    return Status();
  }

  void Forward(std::span<const ModelRow> rows, std::span<const AttentionRow> attention,
               std::span<const int32_t> logit_rows, float* logits, float* block_max) override {
    const int64_t count = static_cast<int64_t>(rows.size());
    const int64_t padded = std::max(count, head_->least_rows());
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
      StoreRows(rows, i, Data<T>(qkv), Data<float>(q));
      PagedAttention(shape, i, attention, Data<float>(q), *cache_, Data<T>(mixed));
      delta = layer.output->Forward(mixed);
      AddRmsNorm(Data<T>(delta), Data<float>(layer.mlp_norm), eps, count, hidden, h, Data<T>(x));
      const at::Tensor gate_up = layer.gate_up->Forward(x);
      SiluMultiply(Data<T>(gate_up), count, config_.intermediate_size, Data<T>(activated));
      delta = layer.down->Forward(activated);
    }
    if (!logit_rows.empty()) Logits(Data<T>(delta), h, logit_rows, logits, block_max);
  }

  Status MoveTokens(std::span<const KvMove> moves) override {
    for (const KvMove& move : moves) cache_->CopyToken(move);
    return Status();
  }

  std::vector<std::string> EnsureRowInvariance() override {
    std::vector<std::string> notes;
    if (const int64_t least = head_->least_rows(); least > 1) {
      notes.push_back("passes are padded to " + std::to_string(least) + " rows");
    }
    std::vector<PackedLinear*> linears;
    for (Layer& layer : layers_) {
      linears.insert(linears.end(), {&*layer.qkv, &*layer.output, &*layer.gate_up, &*layer.down});
    }
    linears.push_back(&*head_);
    ReplaceRowVariant(
        linears, "machine", "computed in pairs of rows",
        [](PackedLinear& linear) { linear.UsePairs(); }, notes);
    return notes;
  }

 private:
  static constexpr at::ScalarType kType = sizeof(T) == 4 ? at::kFloat : at::kBFloat16;

  // Rotates queries and keys; keys and values go to the cache, scaled queries to q.
  void StoreRows(std::span<const ModelRow> rows, int64_t layer, const T* qkv, float* q) {
    const int64_t dim = config_.head_dim;
    const int64_t half = dim / 2;
    const int64_t q_width = config_.heads * dim;
    const int64_t width = q_width + 2 * config_.kv_heads * dim;
    const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
    ParallelFor(rows.size(), 16, [&](int64_t begin, int64_t end) {
      std::vector<float> key(dim);
      for (int64_t r = begin; r < end; ++r) {
        const ModelRow& row = rows[r];
        const float* cosine = rotary_.cosine.data() + row.position * half;
        const float* sine = rotary_.sine.data() + row.position * half;
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
          T* key_to = reinterpret_cast<T*>(cache_->Keys(layer, row.page, head)) + row.slot;
          for (int64_t d = 0; d < dim; ++d) FromFloat(key[d], key_to[d * kPageTokens]);
          std::memcpy(reinterpret_cast<T*>(cache_->Values(layer, row.page, head)) + row.slot * dim,
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
    at::Tensor x = at::zeros({std::max(count, head_->least_rows()), hidden}, options);
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
  at::Tensor embedding_;   // T [vocab, hidden]
  at::Tensor final_norm_;  // fp32 [hidden]
  std::optional<PackedLinear> head_;
  std::vector<Layer> layers_;
  RotaryTable rotary_;
  std::unique_ptr<KvCache> cache_;
};

template <typename T>
Result<std::unique_ptr<Model>> LoadAs(const ModelOptions& options, const ModelConfig& config) {
  auto model = std::make_unique<CpuModel<T>>(
      config, options.int8_weights ? WeightType::kInt8 : WeightType::kNative);
  if (Status status = model->Load(options); !status.ok()) return status;
  return std::unique_ptr<Model>(std::move(model));
}

}  // namespace

Result<std::unique_ptr<Model>> LoadCpuModel(const ModelOptions& options,
                                            const ModelConfig& config) {
  return options.bf16 ? LoadAs<Bf16>(options, config) : LoadAs<float>(options, config);
}

}  // namespace strata::engine
