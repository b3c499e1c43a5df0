#ifndef STRATA_SERVICES_VERIFY_ENGINE_MODEL_H_
#define STRATA_SERVICES_VERIFY_ENGINE_MODEL_H_

#include <cstdint>
#include <memory>
#include <memory_resource>
#include <span>
#include <string>
#include <vector>

#include "services/verify/engine/config.h"
#include "services/verify/engine/device.h"
#include "services/verify/engine/rows.h"
#include "services/verify/engine/status.h"
#include "services/verify/engine/work_seconds.h"

namespace strata::engine {

struct ModelOptions {
  // A Hugging Face folder: *.safetensors.
  std::string model_dir;
  Device device;
  bool bf16 = true;  // else fp32
  bool int8_weights = false;
  // Replay steps as CUDA graphs; the same bits either way.
  bool cuda_graphs = true;
  // Rows have positions below it.
  int64_t max_positions = 0;
  // Pages (of kPageTokens tokens) that there is room for.
  int64_t kv_pages = 0;
};

// A decoder of the Llama family (RMSNorm, rotary halves, grouped-query attention, SwiGLU) and the
// keys and values that it has computed, both in its device's memory: the seam between the engine
// and the devices. One thread at a time.
class Model {
 public:
  // Fails as Engine::Load does. FAILED_PRECONDITION: the device is not there; RESOURCE_EXHAUSTED:
  // no room for the keys and values.
  static Result<std::unique_ptr<Model>> Load(const ModelOptions& options,
                                             const ModelConfig& config);
  virtual ~Model() = default;

  // Memory of the CPU that results are copied to fastest. Static.
  virtual std::pmr::memory_resource* host_memory() const { return std::pmr::new_delete_resource(); }

  // Computes all rows, storing keys and values, and writes the logits of the rows in
  // logit_rows (ascending) to the CPU's memory: [logit_rows, vocab_size], and the greatest of each
  // block of them (ranking.h): [logit_rows, LogitBlocks(vocab_size)]. attention[i] describes
  // rows[i]; a row comes after those that it attends to. Throws what LibTorch throws.
  virtual void Forward(std::span<const ModelRow> rows, std::span<const AttentionRow> attention,
                       std::span<const int32_t> logit_rows, float* logits, float* block_max) = 0;

  // Of all passes that threads computed together. From any thread.
  virtual WorkSeconds work_seconds() const { return {}; }

  // Copies tokens' keys and values, in all layers, one after the other: a move reads what those
  // before it wrote. INTERNAL if the device fails.
  virtual Status MoveTokens(std::span<const KvMove> moves) = 0;

  // Tries every kind of linear layer for row invariance and makes those that lack it
  // compute in another way that has it. Returns what was padded or replaced.
  virtual std::vector<std::string> EnsureRowInvariance() = 0;
};

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_MODEL_H_
