#include "services/verify/engine/cuda/decoder_pass.h"

#include <algorithm>
#include <utility>

#include "services/verify/engine/ranking.h"

namespace strata::engine::cuda {

namespace {

int64_t PadToLinearRows(int64_t rows) {
  return (rows + kLinearRows - 1) / kLinearRows * kLinearRows;
}

}  // namespace

static_assert(kMaxBlock == kLogitBlock);

template <typename T>
DecoderPass<T>::DecoderPass(const Shape& shape, Weights weights, const Buffers& buffers, T* cache,
                            Launcher<T>& launcher)
    : shape_(shape),
      weights_(std::move(weights)),
      buffers_(buffers),
      cache_(cache),
      launcher_(launcher) {}

template <typename T>
void DecoderPass<T>::RunLayers(const StepInput* step, const StepGrid& grid) {
  const int64_t rows = grid.rows;
  const int64_t padded = PadToLinearRows(rows);
  const Buffers& b = buffers_;
  launcher_.Embed({step, weights_.embedding, shape_.hidden, b.residual}, rows);

  AddRmsNormParams<T> norm;
  norm.step = step;
  norm.eps = shape_.rms_norm_eps;
  norm.width = shape_.hidden;
  norm.residual = b.residual;
  norm.out = b.x;
  StoreRowsParams<T> store;
  store.step = step;
  store.qkv = b.qkv;
  store.heads = shape_.heads;
  store.layout = shape_.layout;
  store.cosine = weights_.cosine;
  store.sine = weights_.sine;
  store.q = b.q;
  AttentionParams<T> attention;
  attention.step = step;
  attention.q = b.q;
  attention.layout = shape_.layout;
  attention.heads = static_cast<int>(shape_.heads);
  attention.out = b.mixed;

  T* cache = cache_;
  for (const Layer& layer : weights_.layers) {
    norm.weight = layer.attention_norm;
    launcher_.AddRmsNorm(norm, rows);
    layer.qkv->Forward(b.x, padded, b.qkv);
    store.cache = cache;
    launcher_.StoreRows(store, rows);
    attention.cache = cache;
    launcher_.PagedAttention(attention, grid.groups);
    layer.output->Forward(b.mixed, padded, b.delta);
    // From here on the last block's result is added before the next norm.
    norm.delta = b.delta;
    norm.weight = layer.mlp_norm;
    launcher_.AddRmsNorm(norm, rows);
    layer.gate_up->Forward(b.x, padded, b.gate_up);
    launcher_.SiluMultiply({step, b.gate_up, shape_.inner, b.activated}, rows);
    layer.down->Forward(b.activated, padded, b.delta);
    cache += shape_.layout.LayerSize();
  }
}

template <typename T>
void DecoderPass<T>::RunHead(const StepInput* step, int64_t first, int64_t count) {
  const Buffers& b = buffers_;
  AddRmsNormParams<T> norm;
  norm.source = step->logit_rows + first;
  norm.delta = b.delta;
  norm.weight = weights_.final_norm;
  norm.eps = shape_.rms_norm_eps;
  norm.width = shape_.hidden;
  norm.residual = b.residual;
  norm.out = b.head_x;
  launcher_.AddRmsNorm(norm, count);
  weights_.head->Forward(b.head_x, PadToLinearRows(count), b.head_y);
  launcher_.WidenLogits({b.head_y, shape_.vocab, b.logits, b.block_max}, count);
}

template <typename T>
void DecoderPass<T>::MoveTokens(std::span<const KvMove> moves) {
  MoveTokensParams<T> params;
  params.layout = shape_.layout;
  params.cache = cache_;
  const auto layers = static_cast<int64_t>(weights_.layers.size());
  while (!moves.empty()) {
    const size_t count = std::min<size_t>(moves.size(), kMovesAtOnce);
    std::copy_n(moves.begin(), count, params.moves);
    params.count = static_cast<int>(count);
    launcher_.MoveTokens(params, layers);
    moves = moves.subspan(count);
  }
}

template class DecoderPass<float>;
template class DecoderPass<Bf16>;

}  // namespace strata::engine::cuda
