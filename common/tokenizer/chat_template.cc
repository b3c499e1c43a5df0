#include "common/tokenizer/chat_template.h"

#include <chrono>
#include <ctime>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <iterator>
#include <sstream>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/tokenizer/json.h"
#include "common/tokenizer/template_bounds.h"
#include "common/tokenizer/utf8.h"
#include "minja.hpp"

namespace strata {
namespace {

using tokenizer::Find;
using tokenizer::Json;

// As transformers sets up Jinja.
constexpr minja::Options kOptions = {
    .trim_blocks = true, .lstrip_blocks = true, .keep_trailing_newline = false};

// What templates may ask for by name; transformers passes those that are set.
constexpr const char* kSpecialTokens[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                          "pad_token", "cls_token", "mask_token"};

minja::Value StrftimeNow() {
  return minja::Value::callable([](const std::shared_ptr<minja::Context>&,
                                   minja::ArgumentsValue& args) {
    args.expectArgs("strftime_now", {1, 1}, {0, 0});
    const std::string format = args.args[0].get<std::string>();
    const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
    std::tm local{};
    localtime_r(&now, &local);
    std::ostringstream out;
    out << std::put_time(&local, format.c_str());
    return minja::Value(out.str());
  });
}

// For selectattr and rejectattr, which look tests up by name.
minja::Value TestOfValue(bool (*holds)(const minja::Value&)) {
  return minja::Value::callable(
      [holds](const std::shared_ptr<minja::Context>&, minja::ArgumentsValue& args) {
        return minja::Value(!args.args.empty() && holds(args.args[0]));
      });
}

class MinjaTemplate : public ChatTemplate {
 public:
  MinjaTemplate(std::shared_ptr<minja::TemplateNode> root,
                std::vector<std::pair<std::string, std::string>> special_tokens)
      : root_(std::move(root)), special_tokens_(std::move(special_tokens)) {}

  absl::StatusOr<std::string> Render(const std::vector<ChatMessage>& messages,
                                     bool add_generation_prompt) const override {
    // As transformers refuses it.
    if (messages.empty()) return absl::InvalidArgumentError("the conversation has no messages");
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (size_t i = 0; i < messages.size(); ++i) {
      for (const std::string* text : {&messages[i].role, &messages[i].content}) {
        if (tokenizer::ValidUtf8Prefix(*text) != text->size()) {
          return absl::InvalidArgumentError(
              absl::StrCat("chat message ", i, " is not valid UTF-8"));
        }
      }
      list.push_back({{"role", messages[i].role}, {"content", messages[i].content}});
    }
    // minja reports by exception; none leaves this function.
    try {
      const auto context = minja::Context::make(minja::Value(nlohmann::ordered_json{
          {"messages", list}, {"add_generation_prompt", add_generation_prompt}}));
      for (const auto& [name, text] : special_tokens_) context->set(name, minja::Value(text));
      context->set("strftime_now", StrftimeNow());
      context->set("defined", TestOfValue([](const minja::Value& v) { return !v.is_null(); }));
      context->set("undefined", TestOfValue([](const minja::Value& v) { return v.is_null(); }));
      return root_->render(context);
    } catch (const std::exception& e) {
      return absl::InvalidArgumentError(absl::StrCat("chat template: ", e.what()));
    } catch (...) {
      return absl::InvalidArgumentError("chat template: it failed without a message");
    }
  }

 private:
  const std::shared_ptr<minja::TemplateNode> root_;
  const std::vector<std::pair<std::string, std::string>> special_tokens_;
};

// A token is written as text or as {"content": text, …}.
std::string TokenText(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  const Json* content = Find(value, "content");
  return content != nullptr && content->is_string() ? content->get<std::string>() : "";
}

// The "chat_template" member: a text, or a list of named ones.
absl::StatusOr<std::string> TemplateText(const Json& config, const std::string& path) {
  const Json* value = Find(config, "chat_template");
  if (value == nullptr) {
    return absl::NotFoundError(absl::StrCat(
        path, " has no \"chat_template\", and there is no chat_template.jinja beside it"));
  }
  if (value->is_string()) return value->get<std::string>();
  if (value->is_array()) {
    for (const Json& item : *value) {
      const Json* name = Find(item, "name");
      const Json* text = Find(item, "template");
      if (name != nullptr && *name == "default" && text != nullptr && text->is_string()) {
        return text->get<std::string>();
      }
    }
  }
  return absl::InvalidArgumentError(absl::StrCat(
      path, ": \"chat_template\" must be a text, or a list of named ones with one named default"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::Load(const std::string& model_dir) {
  const std::string config_path = absl::StrCat(model_dir, "/tokenizer_config.json");
  const std::string jinja_path = absl::StrCat(model_dir, "/chat_template.jinja");
  try {
    auto config = tokenizer::ReadJsonFile(config_path);
    // Without a configuration a chat_template.jinja can still stand alone.
    if (!config.ok() && !absl::IsNotFound(config.status())) return config.status();

    std::string text;
    std::string path = config_path;
    std::error_code error;
    if (std::filesystem::is_regular_file(jinja_path, error)) {
      path = jinja_path;
      std::ifstream in(jinja_path, std::ios::binary);
      text.assign(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
      if (!in) return absl::InvalidArgumentError(absl::StrCat("cannot read ", jinja_path));
    } else {
      if (!config.ok()) return config.status();
      auto found = TemplateText(*config, config_path);
      if (!found.ok()) return found.status();
      text = *std::move(found);
    }

    std::vector<std::pair<std::string, std::string>> special_tokens;
    for (const char* name : kSpecialTokens) {
      const Json* value = config.ok() ? Find(*config, name) : nullptr;
      if (value != nullptr) special_tokens.emplace_back(name, TokenText(*value));
    }
    const auto bounded = tokenizer::BoundTemplate(text);
    if (!bounded.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("chat template of ", path, ": ", bounded.status().message()));
    }
    try {
      return std::make_unique<MinjaTemplate>(minja::Parser::parse(*bounded, kOptions),
                                             std::move(special_tokens));
    } catch (const std::exception& e) {
      return absl::InvalidArgumentError(absl::StrCat("chat template of ", path, ": ", e.what()));
    }
  } catch (const std::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat(config_path, ": ", e.what()));
  }
}

}  // namespace strata
