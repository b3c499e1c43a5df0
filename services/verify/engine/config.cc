#include "services/verify/engine/config.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <numbers>

namespace strata::engine {
namespace {

constexpr int64_t kConfigLimit = 16 << 20;

// Reads fields one by one and remembers the first fault.
class Fields {
 public:
  Fields(const Json& json, std::string file) : json_(json), file_(std::move(file)) {}

  int64_t Int(const std::string& name, int64_t low, int64_t high, int64_t fallback = -1) {
    const Json* field = json_.Find(name);
    if (field == nullptr || field->is_null()) {
      if (fallback >= 0) return fallback;
      Fail("\"" + name + "\" is missing");
      return low;
    }
    auto value = field->AsInt();
    if (!value || *value < low || *value > high) {
      Fail("\"" + name + "\" must be a whole number from " + std::to_string(low) + " to " +
           std::to_string(high));
      return low;
    }
    return *value;
  }

  double Number(const std::string& name, double fallback) {
    const Json* field = json_.Find(name);
    if (field == nullptr || field->is_null()) return fallback;
    auto value = field->AsNumber();
    if (!value || !(*value > 0)) {
      Fail("\"" + name + "\" must be a number above 0");
      return fallback;
    }
    return *value;
  }

  bool Bool(const std::string& name, bool fallback) {
    const Json* field = json_.Find(name);
    if (field == nullptr || field->is_null()) return fallback;
    auto value = field->AsBool();
    if (!value) Fail("\"" + name + "\" must be true or false");
    return value.value_or(fallback);
  }

  void Fail(const std::string& why, ErrorCode code = ErrorCode::kInvalidArgument) {
    if (status_.ok()) status_ = Status(code, file_ + ": " + why);
  }
  const Status& status() const { return status_; }
  const Json& json() const { return json_; }

 private:
  const Json& json_;
  const std::string file_;
  Status status_;
};

Result<Json> LoadJson(const std::string& path) {
  auto text = ReadFile(path, kConfigLimit);
  if (!text.ok()) return text.status();
  auto json = Json::Parse(*text);
  if (!json.ok()) return Status(json.status().code(), path + ": " + json.status().message());
  if (!json->is_object()) {
    return Status(ErrorCode::kInvalidArgument, path + ": must hold a JSON object");
  }
  return json;
}

// Frequencies as transformers' modeling_rope_utils computes them, in fp32.
void SetRope(Fields& fields, ModelConfig& config) {
  const Json& json = fields.json();
  const Json* scaling = json.Find("rope_scaling");
  double theta = fields.Number("rope_theta", 10000.0);
  // transformers 5 writes one object "rope_parameters" in place of the two.
  if (const Json* parameters = json.Find("rope_parameters");
      parameters != nullptr && parameters->is_object()) {
    scaling = parameters;
    if (const Json* value = parameters->Find("rope_theta"); value && value->AsNumber()) {
      theta = *value->AsNumber();
    }
  }
  const int64_t half = config.head_dim / 2;
  std::vector<float>& frequencies = config.rope_inverse_frequencies;
  frequencies.resize(half);
  for (int64_t i = 0; i < half; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(config.head_dim);
    frequencies[i] = 1.0f / std::pow(static_cast<float>(theta), exponent);
  }
  if (scaling == nullptr || !scaling->is_object()) return;
  std::string type = "default";
  for (const char* name : {"type", "rope_type"}) {
    if (const Json* value = scaling->Find(name); value && value->AsString()) {
      type = *value->AsString();
    }
  }
  auto number = [&](const char* name) {
    const Json* value = scaling->Find(name);
    if (value == nullptr || !value->AsNumber() || !(*value->AsNumber() > 0)) {
      fields.Fail(std::string("rope scaling \"") + type + "\" needs a number \"" + name + "\"");
      return 1.0;
    }
    return *value->AsNumber();
  };
  if (type == "default") return;
  if (type == "linear") {
    const float factor = static_cast<float>(number("factor"));
    for (float& f : frequencies) f /= factor;
  } else if (type == "llama3") {
    const double factor = number("factor");
    const double low = number("low_freq_factor");
    const double high = number("high_freq_factor");
    const double original = number("original_max_position_embeddings");
    if (!(high > low)) fields.Fail("rope scaling needs high_freq_factor above low_freq_factor");
    for (float& f : frequencies) {
      const double wavelength = 2 * std::numbers::pi / f;
      if (wavelength > original / low) {
        f = static_cast<float>(f / factor);
      } else if (wavelength >= original / high) {
        const double smooth = (original / wavelength - low) / (high - low);
        f = static_cast<float>((1 - smooth) * f / factor + smooth * f);
      }
    }
  } else {
    fields.Fail("rope scaling \"" + type + "\" is not supported (default, linear, llama3)",
                ErrorCode::kUnimplemented);
  }
}

void AddEos(const Json& json, int64_t vocab_size, std::vector<int32_t>& ids) {
  const Json* field = json.Find("eos_token_id");
  if (field == nullptr) return;
  auto add = [&](const Json& value) {
    auto id = value.AsInt();
    if (id && *id >= 0 && *id < vocab_size && std::find(ids.begin(), ids.end(), *id) == ids.end()) {
      ids.push_back(static_cast<int32_t>(*id));
    }
  };
  add(*field);
  for (const Json& item : field->items()) add(item);
}

}  // namespace

Result<std::string> ReadFile(const std::string& path, int64_t limit) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    return Status(ErrorCode::kNotFound, path + ": no such file");
  }
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) return Status(ErrorCode::kNotFound, path + ": cannot be read");
  const int64_t size = in.tellg();
  if (size > limit) {
    return Status(ErrorCode::kInvalidArgument, path + ": " + std::to_string(size) +
                                                   " bytes, at most " + std::to_string(limit) +
                                                   " are allowed");
  }
  std::string text(size, '\0');
  in.seekg(0);
  if (!in.read(text.data(), size)) {
    return Status(ErrorCode::kInvalidArgument, path + ": cannot be read");
  }
  return text;
}

Result<ModelConfig> LoadModelConfig(const std::string& model_dir) {
  std::error_code error;
  if (!std::filesystem::is_directory(model_dir, error)) {
    return Status(ErrorCode::kNotFound, model_dir + ": no such model folder");
  }
  const std::string path = model_dir + "/config.json";
  auto json = LoadJson(path);
  if (!json.ok()) return json.status();
  Fields fields(*json, path);

  ModelConfig config;
  const Json* architectures = json->Find("architectures");
  if (architectures != nullptr && !architectures->items().empty()) {
    config.architecture = architectures->items()[0].AsString().value_or("");
  }
  const std::string& name = config.architecture;
  if (name != "LlamaForCausalLM" && name != "MistralForCausalLM" && name != "Qwen2ForCausalLM") {
    return Status(ErrorCode::kUnimplemented,
                  path + ": architecture \"" + name +
                      "\" is not supported (LlamaForCausalLM, MistralForCausalLM, "
                      "Qwen2ForCausalLM)");
  }
  config.vocab_size = fields.Int("vocab_size", 1, 1 << 24);
  config.hidden_size = fields.Int("hidden_size", 1, 1 << 17);
  config.intermediate_size = fields.Int("intermediate_size", 1, 1 << 20);
  config.layers = fields.Int("num_hidden_layers", 1, 1024);
  config.heads = fields.Int("num_attention_heads", 1, 1024);
  config.kv_heads = fields.Int("num_key_value_heads", 1, 1024, config.heads);
  if (config.hidden_size % config.heads != 0 && json->Find("head_dim") == nullptr) {
    fields.Fail("\"hidden_size\" is not a multiple of \"num_attention_heads\"");
  }
  config.head_dim = fields.Int("head_dim", 1, 1024, config.hidden_size / config.heads);
  config.max_positions = fields.Int("max_position_embeddings", 1, 1 << 24);
  config.rms_norm_eps = fields.Number("rms_norm_eps", 1e-6);
  config.tie_word_embeddings = fields.Bool("tie_word_embeddings", false);
  if (config.heads % config.kv_heads != 0) {
    fields.Fail("\"num_attention_heads\" is not a multiple of \"num_key_value_heads\"");
  }
  if (config.head_dim % 16 != 0 || config.head_dim > kMaxHeadDim) {
    fields.Fail("\"head_dim\" " + std::to_string(config.head_dim) +
                    " is not supported (a multiple of 16, at most " + std::to_string(kMaxHeadDim) +
                    ")",
                ErrorCode::kUnimplemented);
  }
  const Json* act = json->Find("hidden_act");
  if (act != nullptr && act->AsString().value_or("") != "silu") {
    fields.Fail("\"hidden_act\" must be \"silu\"", ErrorCode::kUnimplemented);
  }
  if (name == "Qwen2ForCausalLM") {
    config.qkv_bias = true;
    if (fields.Bool("use_sliding_window", false)) {
      fields.Fail("\"use_sliding_window\" is not supported", ErrorCode::kUnimplemented);
    }
  } else {
    config.qkv_bias = config.output_bias = fields.Bool("attention_bias", false);
    config.mlp_bias = fields.Bool("mlp_bias", false);
  }
  if (name == "MistralForCausalLM") {
    // Within the window, sliding and full attention are the same.
    config.max_positions = std::min(config.max_positions,
                                    fields.Int("sliding_window", 1, 1 << 24, config.max_positions));
  }
  SetRope(fields, config);
  if (!fields.status().ok()) return fields.status();

  // generation_config.json has the last word on where an answer ends; it is optional.
  auto generation = LoadJson(model_dir + "/generation_config.json");
  if (generation.ok()) {
    AddEos(*generation, config.vocab_size, config.eos_token_ids);
  } else if (generation.status().code() != ErrorCode::kNotFound) {
    return generation.status();
  }
  AddEos(*json, config.vocab_size, config.eos_token_ids);
  return config;
}

}  // namespace strata::engine
