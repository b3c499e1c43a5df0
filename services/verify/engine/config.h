#ifndef STRATA_SERVICES_VERIFY_ENGINE_CONFIG_H_
#define STRATA_SERVICES_VERIFY_ENGINE_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "services/verify/engine/json.h"
#include "services/verify/engine/status.h"

namespace strata::engine {

inline constexpr int64_t kMaxHeadDim = 256;

// What config.json and generation_config.json of a Hugging Face folder say, checked.
struct ModelConfig {
  std::string architecture;
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;  // a multiple of 16, at most kMaxHeadDim
  int64_t max_positions = 0;
  double rms_norm_eps = 0;
  bool tie_word_embeddings = false;
  // Biases of the q, k and v projections; of the output projection; of the MLP.
  bool qkv_bias = false;
  bool output_bias = false;
  bool mlp_bias = false;
  // One inverse frequency for each pair of rotated dimensions (head_dim / 2),
  // rope scaling applied.
  std::vector<float> rope_inverse_frequencies;
  std::vector<int32_t> eos_token_ids;
};

// Reads a whole file of at most `limit` bytes. NOT_FOUND, INVALID_ARGUMENT.
Result<std::string> ReadFile(const std::string& path, int64_t limit);

// NOT_FOUND if config.json is missing, INVALID_ARGUMENT for a field that is
// missing or out of range, UNIMPLEMENTED for an unknown architecture or feature.
Result<ModelConfig> LoadModelConfig(const std::string& model_dir);

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_CONFIG_H_
