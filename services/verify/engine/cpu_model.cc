#include "services/verify/engine/cpu_model.h"

#include <ATen/ATen.h>
#include <malloc.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <optional>
#include <type_traits>
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
#include "services/verify/engine/work_seconds.h"

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
      layer.gate_up.emplace(from.gate_up.weight, from.gate_up.bias, weight_type_,
                            Activation::kSiluGate);
      layer.down.emplace(from.down.weight, from.down.bias, weight_type_);
      if (!weights.status().ok()) return weights.status();
    }
    if (!weights.status().ok()) return weights.status();
    // What the layers were packed from has left holes between them.
    malloc_trim(0);
    rotary_ = MakeRotaryTable(config_.rope_inverse_frequencies, options.max_positions);
    auto cache = KvCache::Create(options.kv_pages, config_.layers, config_.kv_heads,
                                 config_.head_dim, sizeof(T));
    if (!cache.ok()) return cache.status();
    cache_ = std::move(*cache);
    return Status();
  }

  void Forward(std::span<const ModelRow> rows, std::span<const AttentionRow> attention,
               std::span<const int32_t> logit_rows, float* logits, float* block_max) override {
    Batch batch{rows, attention, logit_rows, logits, block_max};
    Scratch scratch(*this, batch);
    if (!scratch.together) {
      Pass<T, false>(batch, scratch);
    } else if constexpr (std::is_same_v<T, Bf16>) {
      work_.Add(RunTogether([&] {
        if (scratch.wide) {
          Pass<float, true>(batch, scratch);
        } else {
          Pass<Bf16, true>(batch, scratch);
        }
      }));
    }
  }

  WorkSeconds work_seconds() const override { return work_.sums(); }

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

  // With rows of this type.
  template <typename Row>
  bool RunsTogether() const {
    const auto can = [](const std::optional<PackedLinear>& linear) {
      return linear->template runs_together<Row>();
    };
    return can(head_) && std::all_of(layers_.begin(), layers_.end(), [&](const Layer& layer) {
             return can(layer.qkv) && can(layer.output) && can(layer.gate_up) && can(layer.down);
           });
  }

  // The arguments of Forward.
  struct Batch {
    std::span<const ModelRow> rows;
    std::span<const AttentionRow> attention;
    std::span<const int32_t> logit_rows;
    float* logits;
    float* block_max;
  };

  // What a pass computes with, all of it allocated before threads begin to share it.
  struct Scratch {
    Scratch(const CpuModel& model, const Batch& batch)
        : wide(model.template RunsTogether<float>()),
          together(wide || model.template RunsTogether<Bf16>()),
          attention(BestAttentionWay<T>(), model.attention_shape(), batch.attention,
                    ThreadCount()) {
      const ModelConfig& config = model.config_;
      const auto count = static_cast<int64_t>(batch.rows.size());
      const auto logit_count = static_cast<int64_t>(batch.logit_rows.size());
      const int64_t least = model.head_->least_rows();
      const int64_t q_width = config.heads * config.head_dim;
      const auto options = at::TensorOptions().dtype(kType);
      const auto taken = at::TensorOptions().dtype(wide ? at::kFloat : kType);
      // Rows are written before they are read; behind them are zeros, as many as linear layers take
      // at least.
      const auto padded = [least](int64_t rows, int64_t width, const at::TensorOptions& type) {
        at::Tensor made = at::empty({std::max(rows, least), width}, type);
        // at::zeros would start LibTorch's threads, which spin beside those that share the pass.
        if (rows < least) made.narrow(0, rows, least - rows).zero_();
        return made;
      };
      residual = padded(count, config.hidden_size, at::kFloat);
      x = padded(count, config.hidden_size, taken);
      q = at::empty({count, q_width}, at::kFloat);
      mixed = padded(count, q_width, taken);
      if (logit_count > 0) {
        last = padded(logit_count, config.hidden_size, taken);
      }
      if (!together) return;
      const auto made_by = [&](const std::optional<PackedLinear>& linear, int64_t made) {
        return at::empty({made, linear->width()}, options);
      };
      const Layer& layer = model.layers_.front();
      qkv = made_by(layer.qkv, count);
      activated = at::empty({count, layer.gate_up->width()}, taken);
      delta = made_by(layer.down, count);
      logits = made_by(model.head_, logit_count);
    }

    // Whether linear layers take rows in fp32.
    const bool wide;
    // Whether all threads go through the pass together; else each operation starts them.
    const bool together;
    at::Tensor residual;  // fp32 [rows, hidden]
    at::Tensor q;         // fp32 [rows, heads * head_dim]
    // What linear layers take: T, but in fp32 if wide.
    at::Tensor x;      // [rows, hidden]
    at::Tensor mixed;  // as q
    at::Tensor last;   // [logit rows, hidden]
    // What linear layers return: theirs, or allocated here if they run together.
    at::Tensor qkv;
    at::Tensor activated;  // [rows, intermediate], what the next takes
    at::Tensor delta;      // what the last block adds to the residual stream
    at::Tensor logits;
    AttentionScratch attention;
  };

  AttentionShape attention_shape() const {
    return {config_.heads, config_.kv_heads, config_.head_dim};
  }

  // kTogether: within RunTogether, where every thread comes here. In: the type of what linear
  // layers take.
  template <typename In, bool kTogether>
  void Pass(const Batch& batch, Scratch& scratch) {
    const auto count = static_cast<int64_t>(batch.rows.size());
    const int64_t hidden = config_.hidden_size;
    float* const h = Data<float>(scratch.residual);
    ParallelFor(count, count, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        Widen(Data<T>(embedding_) + batch.rows[r].token * hidden, hidden, h + r * hidden);
      }
    });
    const AttentionShape shape = attention_shape();
    const float eps = static_cast<float>(config_.rms_norm_eps);
    for (int64_t i = 0; i < config_.layers; ++i) {
      const Layer& layer = layers_[i];
      AddRmsNorm(i > 0 ? Data<T>(scratch.delta) : nullptr, Data<float>(layer.attention_norm), eps,
                 count, hidden, h, Data<In>(scratch.x));
      Apply<In, kTogether>(*layer.qkv, *layer.output, scratch.x, scratch.qkv);
      StoreRows(batch, i, Data<T>(scratch.qkv), Data<float>(scratch.q));
      PagedAttention<T>(shape, i, batch.attention, Data<float>(scratch.q), *cache_,
                        scratch.attention, Data<In>(scratch.mixed));
      Apply<In, kTogether>(*layer.output, *layer.gate_up, scratch.mixed, scratch.delta);
      AddRmsNorm(Data<T>(scratch.delta), Data<float>(layer.mlp_norm), eps, count, hidden, h,
                 Data<In>(scratch.x));
      if constexpr (kTogether) {
        layer.gate_up->ForwardGatedTogether(Data<In>(scratch.x), scratch.x.size(0), *layer.down,
                                            Data<In>(scratch.activated));
      } else {
        scratch.activated = layer.gate_up->Forward(scratch.x);
      }
      const bool last = i + 1 == config_.layers;
      Apply<In, kTogether>(*layer.down, last ? *head_ : *layers_[i + 1].qkv, scratch.activated,
                           scratch.delta);
    }
    if (!batch.logit_rows.empty()) Logits<In, kTogether>(batch, scratch);
  }

  // y = linear(x); `next` is the linear layer after it.
  template <typename In, bool kTogether>
  void Apply(const PackedLinear& linear, const PackedLinear& next, const at::Tensor& x,
             at::Tensor& y) {
    if constexpr (kTogether) {
      linear.ForwardTogether(Data<In>(x), x.size(0), next, Data<T>(y));
    } else {
      y = linear.Forward(x);
    }
  }

  // Rotates queries and keys; keys and values go to the cache, scaled queries to q. Threads share
  // this KV head by KV head, as they do attention: rows of a sequence write to the same lines.
  void StoreRows(const Batch& batch, int64_t layer, const T* qkv, float* q) {
    constexpr int64_t kGrainRows = 16;
    const auto items = static_cast<int64_t>(batch.rows.size()) * config_.kv_heads;
    ParallelFor(items, kGrainRows * config_.kv_heads, [&](int64_t begin, int64_t end) {
      ForEachRun(batch.attention, config_.kv_heads, begin, end,
                 [&](int64_t first, int64_t count, int64_t kv_head) {
                   for (const AttentionRow& row : batch.attention.subspan(first, count)) {
                     StoreRow(batch.rows[row.row], row.row, layer, kv_head, qkv, q);
                   }
                 });
    });
  }

  // The query heads, the key and the value of one KV head.
  void StoreRow(const ModelRow& row, int64_t r, int64_t layer, int64_t kv_head, const T* qkv,
                float* q) {
    const int64_t dim = config_.head_dim;
    const int64_t share = config_.heads / config_.kv_heads;
    const int64_t q_width = config_.heads * dim;
    const int64_t kv_width = config_.kv_heads * dim;
    const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
    const float* cosine = rotary_.cosine.data() + row.position * (dim / 2);
    const float* sine = rotary_.sine.data() + row.position * (dim / 2);
    const T* const from = qkv + r * (q_width + 2 * kv_width);
    for (int64_t head = kv_head * share; head < (kv_head + 1) * share; ++head) {
      RotateHalves(cosine, sine, dim, scale, from + head * dim, q + r * q_width + head * dim);
    }
    std::array<T, kMaxHeadDim> key;
    RotateHalves(cosine, sine, dim, 1.0f, from + q_width + kv_head * dim, key.data());
    const T* const value = from + q_width + kv_width + kv_head * dim;
    T* const key_to = reinterpret_cast<T*>(cache_->Keys(layer, row.page, kv_head));
    T* const value_to = reinterpret_cast<T*>(cache_->Values(layer, row.page, kv_head));
    constexpr int64_t kPack = KvLayout<T>::kPack;
    for (int64_t d = 0; d < dim; d += kPack) {
      std::memcpy(key_to + KvLayout<T>::KeyIndex(row.slot, d), key.data() + d, kPack * sizeof(T));
    }
    for (int64_t d = 0; d < dim; ++d) {
      value_to[KvLayout<T>::ValueIndex(row.slot, d, dim)] = value[d];
    }
  }

  template <typename In, bool kTogether>
  void Logits(const Batch& batch, Scratch& scratch) {
    const auto count = static_cast<int64_t>(batch.logit_rows.size());
    const int64_t hidden = config_.hidden_size;
    const T* const delta = Data<T>(scratch.delta);
    float* const h = Data<float>(scratch.residual);
    ParallelFor(count, count, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t r = batch.logit_rows[i];
        AddRmsNormRow(delta + r * hidden, Data<float>(final_norm_),
                      static_cast<float>(config_.rms_norm_eps), hidden, h + r * hidden,
                      Data<In>(scratch.last) + i * hidden);
      }
    });
    Apply<In, kTogether>(*head_, *layers_.front().qkv, scratch.last, scratch.logits);
    const T* from = Data<T>(scratch.logits);
    const int64_t vocab = config_.vocab_size;
    const int64_t blocks = LogitBlocks(vocab);
    ParallelFor(count * blocks, (1 << 18) / kLogitBlock, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t first = i % blocks * kLogitBlock;
        const int64_t size = std::min(kLogitBlock, vocab - first);
        const int64_t at = i / blocks * vocab + first;
        Widen(from + at, size, batch.logits + at);
        BlockMaxima({batch.logits + at, static_cast<size_t>(size)}, batch.block_max + i);
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
  WorkCounter work_;
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
