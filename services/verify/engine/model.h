#ifndef STRATA_SERVICES_VERIFY_ENGINE_MODEL_H_
#define STRATA_SERVICES_VERIFY_ENGINE_MODEL_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "services/verify/engine/attention.h"
#include "services/verify/engine/config.h"
#include "services/verify/engine/kv_cache.h"
#include "services/verify/engine/status.h"

namespace strata::engine {

// A row of a packed batch.
struct ModelRow {
  int32_t token = 0;
  int64_t position = 0;
  int32_t page = 0;  // where its keys and values go
  int32_t slot = 0;
};

// A decoder of the Llama family (RMSNorm, rotary halves, grouped-query attention,
// SwiGLU), weights packed at load. One thread at a time.
class Model {
 public:
  static Result<std::unique_ptr<Model>> Load(const std::string& model_dir,
                                             const ModelConfig& config, bool bf16,
                                             bool int8_weights, int64_t max_positions);
  virtual ~Model() = default;

  // Computes all rows, storing keys and values, and writes the logits of the rows in
  // logit_rows: [logit_rows, vocab_size], and the greatest of each block of them (ranking.h):
  // [logit_rows, LogitBlocks(vocab_size)]. attention[i] describes rows[i].
  virtual void Forward(std::span<const ModelRow> rows, std::span<const AttentionRow> attention,
                       std::span<const int32_t> logit_rows, KvCache& cache, float* logits,
                       float* block_max) = 0;

  // Tries every kind of linear layer for row invariance and makes those that lack it
  // compute in pairs of rows. Returns what was replaced.
  virtual std::vector<std::string> EnsureRowInvariance() = 0;
};

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_MODEL_H_
