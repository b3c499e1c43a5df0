#include "tests/engine/tiny_model.h"

#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

namespace strata::testing {

std::map<std::string, std::vector<int64_t>> TinyModel::Shapes() const {
  std::map<std::string, std::vector<int64_t>> shapes;
  const int64_t q = heads * head_dim;
  const int64_t kv = kv_heads * head_dim;
  shapes["model.embed_tokens.weight"] = {vocab_size, hidden_size};
  shapes["model.norm.weight"] = {hidden_size};
  if (!tied) shapes["lm_head.weight"] = {vocab_size, hidden_size};
  for (int64_t i = 0; i < layers; ++i) {
    const std::string name = "model.layers." + std::to_string(i) + ".";
    shapes[name + "input_layernorm.weight"] = {hidden_size};
    shapes[name + "post_attention_layernorm.weight"] = {hidden_size};
    shapes[name + "self_attn.q_proj.weight"] = {q, hidden_size};
    shapes[name + "self_attn.k_proj.weight"] = {kv, hidden_size};
    shapes[name + "self_attn.v_proj.weight"] = {kv, hidden_size};
    shapes[name + "self_attn.o_proj.weight"] = {hidden_size, q};
    shapes[name + "mlp.gate_proj.weight"] = {intermediate_size, hidden_size};
    shapes[name + "mlp.up_proj.weight"] = {intermediate_size, hidden_size};
    shapes[name + "mlp.down_proj.weight"] = {hidden_size, intermediate_size};
    if (architecture == "Qwen2ForCausalLM") {
      shapes[name + "self_attn.q_proj.bias"] = {q};
      shapes[name + "self_attn.k_proj.bias"] = {kv};
      shapes[name + "self_attn.v_proj.bias"] = {kv};
    }
  }
  return shapes;
}

std::string TinyModel::Config() const {
  std::ostringstream json;
  json << "{\"architectures\": [\"" << architecture << "\"], \"vocab_size\": " << vocab_size
       << ", \"hidden_size\": " << hidden_size << ", \"intermediate_size\": " << intermediate_size
       << ", \"num_hidden_layers\": " << layers << ", \"num_attention_heads\": " << heads
       << ", \"num_key_value_heads\": " << kv_heads << ", \"head_dim\": " << head_dim
       << ", \"max_position_embeddings\": " << max_positions
       << ", \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0, \"hidden_act\": \"silu\""
       << ", \"tie_word_embeddings\": " << (tied ? "true" : "false")
       << ", \"eos_token_id\": [2, 7]}";
  return json.str();
}

void TinyModel::Write(const std::string& dir) const {
  std::filesystem::create_directories(dir);
  WriteFile(dir + "/config.json", Config());
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0.0f, 0.3f);
  std::vector<std::string> headers(shards, "{");
  std::vector<std::string> data(shards);
  std::string map;
  int next = 0;
  for (const auto& [name, shape] : Shapes()) {
    const int shard = next++ % shards;
    int64_t count = 1;
    std::string shape_text;
    for (int64_t n : shape) {
      count *= n;
      shape_text += (shape_text.empty() ? "" : ",") + std::to_string(n);
    }
    const size_t begin = data[shard].size();
    for (int64_t i = 0; i < count; ++i) {
      const float x = shape.size() == 1 ? 1.0f + normal(random) : normal(random);
      data[shard].append(reinterpret_cast<const char*>(&x), sizeof(x));
    }
    headers[shard] += std::string(headers[shard].size() > 1 ? "," : "") + "\"" + name +
                      "\":{\"dtype\":\"F32\",\"shape\":[" + shape_text + "],\"data_offsets\":[" +
                      std::to_string(begin) + "," + std::to_string(data[shard].size()) + "]}";
    map += std::string(map.empty() ? "" : ",") + "\"" + name + "\":\"part-" +
           std::to_string(shard) + ".safetensors\"";
  }
  for (int shard = 0; shard < shards; ++shard) {
    std::string header = headers[shard] + "}";
    const uint64_t size = header.size();
    std::string file(reinterpret_cast<const char*>(&size), 8);
    file += header + data[shard];
    WriteFile(dir + (shards == 1 ? "/model.safetensors"
                                 : "/part-" + std::to_string(shard) + ".safetensors"),
              file);
  }
  if (shards > 1)
    WriteFile(dir + "/model.safetensors.index.json", "{\"weight_map\":{" + map + "}}");
}

void WriteFile(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

std::string ReadWholeFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace strata::testing
