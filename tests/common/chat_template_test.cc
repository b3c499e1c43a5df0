// Chat templates against `transformers`.
#include "common/tokenizer/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/common/tokenizer_test_data.h"

namespace strata {
namespace {

using testing::HasSubstr;

struct ChatModel {
  std::string name;
  // Empty: the reference's own folder.
  absl::StatusOr<std::string> path;
  // Of the cases; templates of other models may want turns in another order.
  int rendered_at_least;
};
void PrintTo(const ChatModel& model, std::ostream* out) { *out << model.name; }

std::vector<ChatModel> ChatModels() {
  std::vector<ChatModel> models = {{"smollm2", Environment("STRATA_TEST_MODEL"), 600},
                                   {"qwen2", Environment("STRATA_TEST_MODEL_QWEN2"), 600},
                                   {"idioms", "", 600}};
  for (const ModelFolder& folder : GivenModelFolders()) {
    if (absl::IsNotFound(ChatTemplate::Load(folder.path).status())) continue;
    models.push_back({folder.name, folder.path, 100});
  }
  return models;
}

class ChatEquality : public testing::TestWithParam<ChatModel> {};

TEST_P(ChatEquality, RendersAsTransformersDoes) {
  const auto& [name, model, rendered_at_least] = GetParam();
  ASSERT_TRUE(model.ok()) << model.status();
  auto folder = MakeReference("chat", name);
  ASSERT_TRUE(folder.ok()) << folder.status();
  auto chat = ChatTemplate::Load(model->empty() ? *folder : *model);
  ASSERT_TRUE(chat.ok()) << chat.status();
  std::ifstream in(*folder + "/chat.json");
  const auto cases = nlohmann::json::parse(in, nullptr, /*allow_exceptions=*/false);
  ASSERT_TRUE(cases.is_array());
  ASSERT_GE(cases.size(), 600u);
  int rendered = 0;
  for (const auto& item : cases) {
    std::vector<ChatMessage> messages;
    for (const auto& message : item["messages"]) {
      messages.push_back({message["role"], message["content"]});
    }
    const auto text = (*chat)->Render(messages, item["add_generation_prompt"]);
    if (item.contains("text")) {
      ASSERT_TRUE(text.ok()) << text.status() << "\n" << item.dump();
      ASSERT_EQ(*text, item["text"].get<std::string>()) << item.dump();
      ++rendered;
    } else {
      EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument) << item.dump();
    }
  }
  EXPECT_GE(rendered, rendered_at_least);
}

INSTANTIATE_TEST_SUITE_P(Models, ChatEquality, testing::ValuesIn(ChatModels()),
                         [](const auto& info) { return info.param.name; });

class ChatLoad : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "/chat_" +
              testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ + "/" + name) << text;
  }
  std::string folder_;
};

TEST_F(ChatLoad, MissingTemplateIsNotFound) {
  EXPECT_EQ(ChatTemplate::Load(folder_).status().code(), absl::StatusCode::kNotFound);
  Write("tokenizer_config.json", "{}");
  EXPECT_EQ(ChatTemplate::Load(folder_).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ChatLoad, DamageIsInvalidArgument) {
  for (const char* text : {"{", R"({"chat_template": 3})", R"({"chat_template": "{% if %}"})",
                           R"({"chat_template": "{% for x in y %}"})"}) {
    Write("tokenizer_config.json", text);
    EXPECT_EQ(ChatTemplate::Load(folder_).status().code(), absl::StatusCode::kInvalidArgument)
        << text;
  }
}

// What a file says must not be able to end the process: parsing and rendering recurse.
TEST_F(ChatLoad, WhatIsTooLongOrTooDeepIsInvalidArgument) {
  const auto repeat = [](const std::string& text, int times) {
    std::string out;
    for (int i = 0; i < times; ++i) out += text;
    return out;
  };
  struct Case {
    std::string text;
    std::string says;
  };
  for (const auto& [text, says] : {
           Case{repeat("x ", 1 << 17) + "x",
                "line 1: the template has 262145 bytes, at most 262144"},
           Case{"x\n" + repeat(" ", 30000) + "{%- if 1 %}{% endif %}",
                "a stretch of white space has"},
           Case{"{{ " + repeat("(", 10000) + "1" + repeat(")", 10000) + " }}",
                "65 levels of brackets"},
           Case{"{{ " + repeat("[", 10000) + repeat("]", 10000) + " }}", "65 levels of brackets"},
           Case{"{{ " + repeat("{'a':", 10000) + "1" + repeat("}", 10000) + " }}",
                "65 levels of brackets"},
           Case{"{{ " + repeat("not ", 30000) + "1 }}", "a tag has 2049 bytes outside of strings"},
           Case{"{{ 1 " + repeat("if 1 else 2 ", 1000) + " }}", "a tag has 2049 bytes"},
           Case{"{{ a" + repeat(".a", 3000) + " }}", "a tag has 2049 bytes"},
           Case{"\n\n" + repeat("{% if 1 %}", 1000) + repeat("{% endif %}", 1000),
                "line 3: the template has 65 levels of blocks, at most 64"},
           Case{repeat("{%- for x in [1] %}", 500) + repeat("{% endfor %}", 500),
                "65 levels of blocks"},
           Case{repeat("{% set a %}", 500) + repeat("{% endset %}", 500), "65 levels of blocks"},
           Case{"{% if 1 %}" + repeat("{% elif 1 %}", 3000) + "{% endif %}",
                "1025 tags, at most 1024"},
       }) {
    Write("chat_template.jinja", text);
    const auto chat = ChatTemplate::Load(folder_);
    EXPECT_EQ(chat.status().code(), absl::StatusCode::kInvalidArgument) << text.substr(0, 20);
    EXPECT_THAT(std::string(chat.status().message()), HasSubstr(says));
  }
  // The most that is allowed is parsed and rendered.
  for (const auto& [text, wanted] : std::initializer_list<std::pair<std::string, std::string>>{
           {repeat(" ", 1024) + "x", repeat(" ", 1024) + "x"},
           {"x" + repeat(" ", 1024) + "{{- 'y' }}", "xy"},
           {"a {#" + repeat("c", 200000) + "#} x", "a  x"},
           {"a {#-" + repeat("c", 200000) + "-#} x", "ax"},
           {"a {#- #} b {# -#} c {#-#} d {##} e {#--#} f", "a b c d  ef"},
           {"{{ '" + repeat("s", 200000) + "' }}", repeat("s", 200000)},
           {"{{ " + repeat("(", 64) + "1" + repeat(")", 64) + " }}", "1"},
           {"{{ " + repeat("not ", 510) + "true }}", "True"},
           {"{{ 1" + repeat("+1", 1000) + " }}", "1001"},
           {"{{ 1 " + repeat("if 1 else 2 ", 160) + " }}", "1"},
           {repeat("{% if 1 %}", 64) + "x" + repeat("{% endif %}", 64), "x"},
           {repeat("{% for x in [1] %}", 64) + "x" + repeat("{% endfor %}", 64), "x"},
           {repeat("{% set x = 1 %}", 1000) + "{{ {'a': {'b': '}}'}}['a']['b'] }}", "}}"},
       }) {
    Write("chat_template.jinja", text);
    const auto chat = ChatTemplate::Load(folder_);
    ASSERT_TRUE(chat.ok()) << chat.status() << text.substr(0, 20);
    const auto rendered = (*chat)->Render({{"user", "hi"}}, false);
    ASSERT_TRUE(rendered.ok()) << rendered.status() << text.substr(0, 20);
    EXPECT_EQ(*rendered, wanted) << text.substr(0, 20);
  }
}

TEST_F(ChatLoad, RaiseExceptionReachesTheCaller) {
  Write("chat_template.jinja",
        "{% if messages[0].role == 'odd' %}{{ raise_exception('no such role') }}{% endif %}"
        "{{ bos_token }}{{ messages[0].content }}");
  Write("tokenizer_config.json", R"({"bos_token": {"content": "<s>"}})");
  auto chat = ChatTemplate::Load(folder_);
  ASSERT_TRUE(chat.ok()) << chat.status();
  const auto error = (*chat)->Render({{"odd", "x"}}, false);
  EXPECT_EQ(error.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(error.status().message()), HasSubstr("no such role"));
  EXPECT_EQ((*chat)->Render({{"user", "\xff"}}, false).status().code(),
            absl::StatusCode::kInvalidArgument);
  const auto text = (*chat)->Render({{"user", "hi"}}, false);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(*text, "<s>hi");
}

}  // namespace
}  // namespace strata
