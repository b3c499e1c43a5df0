// Ids, decoding and streaming against PyPI `tokenizers`.
#include "common/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "common/tokenizer/utf8.h"
#include "tests/common/tokenizer_test_data.h"

namespace strata {
namespace {

constexpr size_t kMinTexts = 20000;
constexpr int kMaxReported = 5;

struct Streamed {
  std::string text;
  // Parts that end, or begin, in the middle of a character.
  int broken_characters = 0;
};

Streamed Stream(const Tokenizer& tokenizer, const std::vector<TokenId>& ids, bool skip) {
  Streamed streamed;
  const auto stream = tokenizer.NewStream(skip);
  for (const TokenId id : ids) {
    const std::string part = stream->Push(id);
    // Part of a character would be invalid on its own.
    if (tokenizer::ValidUtf8Prefix(part) != part.size()) ++streamed.broken_characters;
    streamed.text += part;
  }
  streamed.text += stream->Finish();
  return streamed;
}

class TokenizerEquality : public testing::TestWithParam<std::string> {};

TEST_P(TokenizerEquality, IdsAndTextEqualPyPi) {
  auto folder = MakeReference("ids", GetParam());
  ASSERT_TRUE(folder.ok()) << folder.status();
  auto tokenizer = Tokenizer::Load(*folder);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  auto texts = ReadReference(*folder);
  ASSERT_TRUE(texts.ok()) << texts.status();
  ASSERT_GE(texts->size(), kMinTexts);

  int wrong_ids = 0, wrong_decoded = 0, wrong_streamed = 0, broken_characters = 0;
  for (size_t i = 0; i < texts->size(); ++i) {
    const ReferenceText& expected = (*texts)[i];
    const auto ids = (*tokenizer)->Encode(expected.text, /*add_special_tokens=*/false);
    const auto special = (*tokenizer)->Encode(expected.text, /*add_special_tokens=*/true);
    if (ids != expected.ids || special != expected.ids_with_special) {
      if (++wrong_ids <= kMaxReported) {
        ADD_FAILURE() << "text " << i << ": "
                      << testing::PrintToString(expected.text.substr(0, 300)) << "\n is  "
                      << testing::PrintToString(ids) << "\n not "
                      << testing::PrintToString(expected.ids);
      }
    }
    for (const bool skip : {false, true}) {
      const std::string& wanted = skip ? expected.decoded_unspecial : expected.decoded;
      const std::string decoded = (*tokenizer)->Decode(expected.ids_with_special, skip);
      if (decoded != wanted && ++wrong_decoded <= kMaxReported) {
        ADD_FAILURE() << "text " << i << ", skip " << skip << ": decoded\n "
                      << testing::PrintToString(decoded) << "\n not\n "
                      << testing::PrintToString(wanted);
      }
      const Streamed streamed = Stream(**tokenizer, expected.ids_with_special, skip);
      broken_characters += streamed.broken_characters;
      if (streamed.text != wanted) ++wrong_streamed;
    }
  }
  EXPECT_EQ(wrong_ids, 0) << "of " << texts->size();
  EXPECT_EQ(wrong_decoded, 0);
  EXPECT_EQ(wrong_streamed, 0);
  EXPECT_EQ(broken_characters, 0);
}

// A model may say any ids in any order: what comes out of them, at once and as a stream, is what
// PyPI `tokenizers` makes of them, and no part of a stream ends in the middle of a character.
TEST_P(TokenizerEquality, AnyIdsDecodeAndStreamAsPyPi) {
  auto folder = MakeReference("ids", GetParam());
  ASSERT_TRUE(folder.ok()) << folder.status();
  auto tokenizer = Tokenizer::Load(*folder);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  auto streams = ReadStreams(*folder);
  ASSERT_TRUE(streams.ok()) << streams.status();
  ASSERT_GE(streams->size(), 4000u);
  int wrong_decoded = 0, wrong_streamed = 0, broken_characters = 0;
  size_t replaced = 0;
  for (const ReferenceStream& expected : *streams) {
    replaced += expected.decoded.find("\xEF\xBF\xBD") != std::string::npos;
    for (const bool skip : {false, true}) {
      const std::string& wanted = skip ? expected.decoded_unspecial : expected.decoded;
      const std::string decoded = (*tokenizer)->Decode(expected.ids, skip);
      if (decoded != wanted && ++wrong_decoded <= kMaxReported) {
        ADD_FAILURE() << testing::PrintToString(expected.ids) << ", skip " << skip << ": decoded\n "
                      << testing::PrintToString(decoded) << "\n not\n "
                      << testing::PrintToString(wanted);
      }
      const Streamed streamed = Stream(**tokenizer, expected.ids, skip);
      broken_characters += streamed.broken_characters;
      wrong_streamed += streamed.text != wanted;
    }
  }
  // The sequences are what they are for, characters cut in many ways: where tokens can cut them.
  const bool has_bytes = GetParam() != "unknown";
  if (has_bytes) {
    EXPECT_GT(replaced, streams->size() / 20);
  }
  EXPECT_EQ(wrong_decoded, 0) << "of " << streams->size();
  EXPECT_EQ(wrong_streamed, 0);
  EXPECT_EQ(broken_characters, 0);
}

// Two of real models, eight trained here that have the parts of other families' ones, and whatever
// STRATA_TEST_TOKENIZERS has.
std::vector<std::string> TokenizerNames() {
  std::vector<std::string> names = {"smollm2", "qwen2",  "llama3",  "qwen2like", "gpt2like",
                                    "llama2",  "vicuna", "mistral", "gemma",     "unknown"};
  for (const ModelFolder& folder : GivenModelFolders()) names.push_back(folder.name);
  return names;
}
INSTANTIATE_TEST_SUITE_P(Tokenizers, TokenizerEquality, testing::ValuesIn(TokenizerNames()),
                         [](const auto& info) { return info.param; });

class SmolLm2 : public testing::Test {
 protected:
  void SetUp() override {
    auto model = Environment("STRATA_TEST_MODEL");
    ASSERT_TRUE(model.ok()) << model.status();
    auto tokenizer = Tokenizer::Load(*model);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
  }
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(SmolLm2, KnowsItsVocabulary) {
  EXPECT_EQ(tokenizer_->vocab_size(), 49152);
  EXPECT_EQ(tokenizer_->TokenToId("<|im_start|>"), 1);
  EXPECT_EQ(tokenizer_->TokenToId("no such token"), -1);
}

TEST_F(SmolLm2, SkipsIdsOutOfRange) {
  auto ids = tokenizer_->Encode("Hello", false);
  ids.insert(ids.begin(), {-1, 49152, 2147483647, -2147483647});
  EXPECT_EQ(tokenizer_->Decode(ids, false), "Hello");
}

TEST_F(SmolLm2, StreamHoldsCutCharactersBack) {
  const std::string text = "\xF0\x9F\xA6\x96";  // a sauropod, several tokens
  const auto ids = tokenizer_->Encode(text, false);
  ASSERT_GT(ids.size(), 1u);
  const auto stream = tokenizer_->NewStream(false);
  for (size_t i = 0; i + 1 < ids.size(); ++i) EXPECT_EQ(stream->Push(ids[i]), "");
  EXPECT_EQ(stream->Push(ids.back()), text);
  EXPECT_EQ(stream->Finish(), "");

  const auto cut = tokenizer_->NewStream(false);
  EXPECT_EQ(cut->Push(ids[0]), "");
  EXPECT_EQ(cut->Finish(), "\xEF\xBF\xBD");
}

TEST_F(SmolLm2, ManyThreadsAgree) {
  std::vector<std::string> texts;
  for (int i = 0; i < 400; ++i) texts.push_back("word" + std::to_string(i * 7919) + " and more");
  std::vector<std::vector<TokenId>> expected;
  for (const auto& text : texts) expected.push_back(tokenizer_->Encode(text, false));
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < texts.size(); ++i) {
        const size_t at = (i * 31 + t * 97) % texts.size();
        if (tokenizer_->Encode(texts[at], false) != expected[at]) ++wrong;
        if (tokenizer_->Decode(expected[at], true) != texts[at]) ++wrong;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace strata
