#include "services/verify/engine/cuda/cuda_model.h"

#include <ATen/Context.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <map>
#include <memory_resource>
#include <optional>
#include <string>
#include <utility>

#include "services/verify/engine/cuda/block_linear.h"
#include "services/verify/engine/cuda/decoder_memory.h"
#include "services/verify/engine/cuda/decoder_pass.h"
#include "services/verify/engine/cuda/graphs.h"
#include "services/verify/engine/cuda/pinned_memory.h"
#include "services/verify/engine/cuda/step.h"
#include "services/verify/engine/cuda/step_buffer.h"
#include "services/verify/engine/cuda/stream_launcher.h"
#include "services/verify/engine/ranking.h"
#include "services/verify/engine/row_invariance.h"

namespace strata::engine::cuda {
namespace {

// Whether the device is there.
Status CheckDevice(int index) {
  const int count = c10::cuda::device_count();
  if (index < count) return Status();
  return Status(ErrorCode::kFailedPrecondition,
                "device \"cuda:" + std::to_string(index) + "\": " +
                    (count == 0 ? "no CUDA device, or no driver for it, is there"
                                : "there are only " + std::to_string(count) + " CUDA devices"));
}

// What a step of so many rows or groups is run as: few sizes, so that there are few graphs, and yet
// close, for hundreds of blocks that do nothing are no faster to start than others.
int64_t GraphSize(int64_t count) {
  int64_t size = 1;
  while (size < count && size < kLinearRows) size *= 2;
  return size >= count ? size : (count + kLinearRows - 1) / kLinearRows * kLinearRows;
}

// T: float or Bf16, the type of weights, activations and cache.
template <typename T>
class CudaModel final : public Model {
 public:
  CudaModel(ModelConfig config, bool graphs, c10::cuda::CUDAStream stream)
      : config_(std::move(config)),
        use_graphs_(graphs),
        stream_(stream),
        launcher_(stream.stream()),
        step_(AttentionGroupRows<T>(config_.heads / config_.kv_heads), stream) {}

  Status Load(const ModelOptions& options) {
    auto memory =
        DecoderMemory<T>::Load(options, config_, stream_.device(), [&](LinearWeights weights) {
          linears_.push_back(std::make_unique<BlockLinear<T>>(std::move(weights), launcher_));
          return linears_.back().get();
        });
    if (!memory.ok()) return memory.status();
    memory_ = std::move(*memory);
    pass_.emplace(memory_->shape(), memory_->weights(), memory_->buffers(), memory_->cache(),
                  launcher_);
    C10_CUDA_CHECK(cudaStreamSynchronize(stream_.stream()));
    return Status();
  }

  std::pmr::memory_resource* host_memory() const override { return PinnedMemory(); }

  void Forward(std::span<const ModelRow> rows, std::span<const AttentionRow> attention,
               std::span<const int32_t> logit_rows, float* logits, float* block_max) override {
    const c10::cuda::CUDAStreamGuard guard(stream_);
    const int64_t vocab = config_.vocab_size;
    const int64_t blocks = LogitBlocks(vocab);
    for (const StepRows& step : SplitIntoSteps(rows, attention, logit_rows)) {
      bool moved = false;
      StepGrid grid = step_.Fill(step, &moved);
      if (moved) graphs_.Clear();
      grid = {GraphSize(grid.rows), GraphSize(grid.groups)};
      const auto layers = [&] { pass_->RunLayers(step_.step(), grid); };
      if (use_graphs_) {
        graphs_.Run({grid.rows, grid.groups}, layers);
      } else {
        layers();
      }
      // Not captured: these are a few kernels, and copies of any size.
      const auto wanted = static_cast<int64_t>(step.logit_rows.size());
      for (int64_t first = 0; first < wanted; first += kHeadRows) {
        const int64_t some = std::min(kHeadRows, wanted - first);
        pass_->RunHead(step_.step(), first, some);
        CopyToHost(memory_->buffers().logits, some * vocab, logits);
        CopyToHost(memory_->buffers().block_max, some * blocks, block_max);
        logits += some * vocab;
        block_max += some * blocks;
      }
    }
    C10_CUDA_CHECK(cudaStreamSynchronize(stream_.stream()));
  }

  Status MoveTokens(std::span<const KvMove> moves) override {
    if (moves.empty()) return Status();
    try {
      const c10::cuda::CUDAStreamGuard guard(stream_);
      pass_->MoveTokens(moves);
    } catch (const std::exception& error) {
      return Status(ErrorCode::kInternal, std::string("moving keys and values: ") + error.what());
    }
    return Status();
  }

  std::vector<std::string> EnsureRowInvariance() override {
    const c10::cuda::CUDAStreamGuard guard(stream_);
    std::vector<std::string> notes = {"linear layers are computed in blocks of " +
                                      std::to_string(kLinearRows) +
                                      " rows, larger where that changes no bit"};
    std::vector<BlockLinear<T>*> linears;
    for (const auto& linear : linears_) linears.push_back(linear.get());
    ReplaceRowVariant(
        linears, "device", "computed row by row", [](BlockLinear<T>& linear) { linear.UseRows(); },
        notes);
    UseLargerBlocks();
    graphs_.Clear();
    return notes;
  }

 private:
  void UseLargerBlocks() {
    std::map<std::pair<int64_t, int64_t>, std::vector<int64_t>> found;
    for (const auto& linear : linears_) {
      const auto shape = std::make_pair(linear->out_features(), linear->in_features());
      auto it = found.find(shape);
      if (it == found.end()) it = found.emplace(shape, linear->FindLargerBlocks()).first;
      linear->UseLargerBlocks(it->second);
    }
  }

  void CopyToHost(const float* from, int64_t count, float* to) {
    C10_CUDA_CHECK(
        cudaMemcpyAsync(to, from, count * sizeof(float), cudaMemcpyDeviceToHost, stream_.stream()));
  }

  const ModelConfig config_;
  const bool use_graphs_;
  const c10::cuda::CUDAStream stream_;
  StreamLauncher<T> launcher_;
  std::vector<std::unique_ptr<BlockLinear<T>>> linears_;
  std::unique_ptr<DecoderMemory<T>> memory_;
  StepBuffer step_;
  std::optional<DecoderPass<T>> pass_;
  Graphs graphs_;
};

template <typename T>
Result<std::unique_ptr<Model>> LoadAs(const ModelOptions& options, const ModelConfig& config) {
  const auto index = static_cast<c10::DeviceIndex>(options.device.index);
  const c10::cuda::CUDAStream stream = c10::cuda::getStreamFromPool(false, index);
  const c10::cuda::CUDAStreamGuard guard(stream);
  try {
    auto model = std::make_unique<CudaModel<T>>(config, options.cuda_graphs, stream);
    if (Status status = model->Load(options); !status.ok()) return status;
    return std::unique_ptr<Model>(std::move(model));
  } catch (const c10::OutOfMemoryError& error) {
    return Status(ErrorCode::kResourceExhausted, options.model_dir + ": " + error.what());
  }
}

}  // namespace

Result<std::unique_ptr<Model>> LoadCudaModel(const ModelOptions& options,
                                             const ModelConfig& config) {
  if (options.int8_weights) {
    return Status(ErrorCode::kUnimplemented,
                  "weights of 8 bits are not supported on CUDA (native weights are)");
  }
  if (Status status = CheckDevice(options.device.index); !status.ok()) return status;
  at::globalContext().lazyInitDevice(at::kCUDA);
  UseFullPrecision();
  return options.bf16 ? LoadAs<Bf16>(options, config) : LoadAs<float>(options, config);
}

}  // namespace strata::engine::cuda
