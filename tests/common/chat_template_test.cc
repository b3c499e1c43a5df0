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

class ChatEquality : public testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(ChatEquality, RendersAsTransformersDoes) {
  const auto [name, variable] = GetParam();
  auto model = Environment(variable);
  ASSERT_TRUE(model.ok()) << model.status();
  auto folder = MakeReference("chat", name);
  ASSERT_TRUE(folder.ok()) << folder.status();
  auto chat = ChatTemplate::Load(*model);
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
  EXPECT_GE(rendered, 600);
}

INSTANTIATE_TEST_SUITE_P(Models, ChatEquality,
                         testing::Values(std::pair("smollm2", "STRATA_TEST_MODEL"),
                                         std::pair("qwen2", "STRATA_TEST_MODEL_QWEN2")),
                         [](const auto& info) { return std::string(info.param.first); });

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
