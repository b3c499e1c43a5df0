#ifndef STRATA_TESTS_ENGINE_TINY_MODEL_H_
#define STRATA_TESTS_ENGINE_TINY_MODEL_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace strata::testing {

// A model folder with random weights: real files in the real format, small enough to be
// written, damaged and loaded many times.
struct TinyModel {
  std::string architecture = "LlamaForCausalLM";
  int64_t vocab_size = 101;
  int64_t hidden_size = 48;
  int64_t intermediate_size = 80;
  int64_t layers = 2;
  int64_t heads = 6;
  int64_t kv_heads = 2;
  int64_t head_dim = 16;
  int64_t max_positions = 256;
  bool tied = false;
  int shards = 1;
  uint64_t seed = 1;

  // Shapes of all tensors by name.
  std::map<std::string, std::vector<int64_t>> Shapes() const;
  std::string Config() const;
  // Writes config.json and the safetensors files (fp32).
  void Write(const std::string& dir) const;
};

void WriteFile(const std::string& path, const std::string& content);
std::string ReadWholeFile(const std::string& path);

}  // namespace strata::testing

#endif  // STRATA_TESTS_ENGINE_TINY_MODEL_H_
