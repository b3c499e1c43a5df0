// tokenizer.json files that are damaged, unknown, or the same in other words.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "common/tokenizer/regex.h"
#include "common/tokenizer/tokenizer.h"

namespace strata {
namespace {

using testing::HasSubstr;

class TokenizerLoad : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "/tokenizer_" +
              testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const std::string& json) {
    std::ofstream(folder_ + "/tokenizer.json") << json;
    return Tokenizer::Load(folder_);
  }
  // A whole file with other parts put in.
  static std::string With(const std::string& members, const std::string& model_members = "") {
    return R"({"version": "1.0", )" + members + R"("model": {"type": "BPE", )" + model_members +
           R"("vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}})";
  }
  void ExpectError(const std::string& json, absl::StatusCode code, const std::string& part) {
    const auto result = Load(json);
    EXPECT_EQ(result.status().code(), code) << json << "\n" << result.status();
    EXPECT_THAT(std::string(result.status().message()), HasSubstr(part)) << json;
  }
  std::string folder_;
};

TEST_F(TokenizerLoad, MissingFileIsNotFound) {
  EXPECT_EQ(Tokenizer::Load(folder_ + "/none").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(TokenizerLoad, DamageIsInvalidArgument) {
  const auto invalid = absl::StatusCode::kInvalidArgument;
  const std::string good = With("");
  ASSERT_TRUE(Load(good).ok()) << Load(good).status();
  for (size_t cut = 0; cut < good.size(); ++cut) {
    ExpectError(good.substr(0, cut), invalid, "not valid JSON");
  }
  ExpectError(std::string(100000, '['), invalid, "nested deeper");
  ExpectError("[]", invalid, "no object \"model\"");
  ExpectError("{\"model\": 3}", invalid, "no object \"model\"");
  ExpectError(R"({"model": {"type": "BPE", "vocab": [], "merges": []}})", invalid, "vocab");
  ExpectError(R"({"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}})", invalid, "a");
  ExpectError(R"({"model": {"type": "BPE", "vocab": {"a": 2000000000}, "merges": []}})", invalid,
              "far above");
  ExpectError(R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []}})", invalid,
              "id 0");
  ExpectError(R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a"]}})", invalid,
              "merges[0]");
  ExpectError(R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a a"]}})", invalid,
              "\"aa\" is not in the vocabulary");
  ExpectError(With("", R"("unk_token": "?", )"), invalid, "unk_token");
  ExpectError(With("", R"("byte_fallback": 1, )"), invalid, "byte_fallback");
  ExpectError(With(R"("added_tokens": [{"id": 3}], )"), invalid, "added_tokens[0]");
  ExpectError(With(R"("pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("},
                   "behavior": "Isolated", "invert": false}, )"),
              invalid, "regular expression");
  ExpectError(With(R"("pre_tokenizer": {"type": "Split", "pattern": {"String": "x"},
                   "behavior": "Other", "invert": false}, )"),
              invalid, "Other");
  ExpectError(With(R"("decoder": {"type": "Strip", "content": " ", "start": -1, "stop": 0}, )"),
              invalid, "start");
  ExpectError(With(R"("post_processor": {"type": "TemplateProcessing", "single": [
                   {"SpecialToken": {"id": "x", "type_id": 0}}]}, )"),
              invalid, "ids of \"x\"");
}

TEST_F(TokenizerLoad, UnknownPartsAreNamed) {
  const auto unknown = absl::StatusCode::kUnimplemented;
  ExpectError(With(R"("normalizer": {"type": "Precompiled"}, )"), unknown, "Precompiled");
  ExpectError(With(R"("pre_tokenizer": {"type": "BertPreTokenizer"}, )"), unknown, "Bert");
  ExpectError(With(R"("decoder": {"type": "WordPiece"}, )"), unknown, "WordPiece");
  ExpectError(With(R"("post_processor": {"type": "Odd"}, )"), unknown, "Odd");
  ExpectError(R"({"model": {"type": "Unigram", "vocab": []}})", unknown, "Unigram");
  ExpectError(With("", R"("dropout": 0.1, )"), unknown, "dropout");
  ExpectError(With("", R"("end_of_word_suffix": "</w>", )"), unknown, "end_of_word_suffix");
}

TEST_F(TokenizerLoad, FingerprintIsOfTheContent) {
  const auto fingerprint = [this](const std::string& json) {
    auto tokenizer = Load(json);
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    return tokenizer.ok() ? (*tokenizer)->fingerprint() : "";
  };
  const std::string base = fingerprint(With(""));
  EXPECT_THAT(base, testing::MatchesRegex("[0-9a-f]+"));
  EXPECT_EQ(base.size(), 32u);
  // Other key order, spacing, spelling of merges and of absence.
  EXPECT_EQ(base, fingerprint(R"({"model": {"merges": [["a", "b"]], "unk_token": null,
      "vocab": {"ab": 2, "b": 1, "a": 0}}, "normalizer": null, "added_tokens": []})"));
  // Decoders and post-processors do not change the ids of a text.
  EXPECT_EQ(base, fingerprint(With(R"("decoder": {"type": "Fuse"}, )")));
  EXPECT_NE(base, fingerprint(With(R"("normalizer": {"type": "NFC"}, )")));
  EXPECT_NE(base, fingerprint(With("", R"("byte_fallback": true, )")));
  EXPECT_NE(base, fingerprint(With(R"("added_tokens": [{"id": 3, "content": "x"}], )")));
  EXPECT_NE(base, fingerprint(R"({"model": {"type": "BPE", "merges": ["a b"],
      "vocab": {"ab": 0, "b": 1, "a": 2}}})"));
  EXPECT_NE(base, fingerprint(R"({"model": {"type": "BPE", "merges": [],
      "vocab": {"ab": 2, "b": 1, "a": 0}}})"));
}

TEST_F(TokenizerLoad, LongTextsAreNotQuadratic) {
  auto tokenizer = Load(With(""));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  std::string text;
  for (int i = 0; i < 500000; ++i) text += "ab";
  const auto ids = (*tokenizer)->Encode(text, false);
  EXPECT_EQ(ids, std::vector<TokenId>(500000, 2));
}

TEST(Oniguruma, TranslationKeepsMeaning) {
  const auto parts = [](const char* pattern, std::string_view text) {
    auto regex = tokenizer::Regex::Compile(pattern);
    EXPECT_TRUE(regex.ok()) << regex.status();
    std::vector<std::string> out;
    std::vector<tokenizer::Span> spans;
    if (regex.ok()) regex->Split(text, &spans);
    for (const auto& span : spans) {
      out.emplace_back(1, span.match ? '+' : '-');
      out.back().append(text.substr(span.begin, span.end - span.begin));
    }
    return out;
  };
  using testing::ElementsAre;
  EXPECT_THAT(parts("\\s+", "a \xE1\xA0\x8E "), ElementsAre("-a", "+ ", "-\xE1\xA0\x8E", "+ "));
  EXPECT_THAT(parts("\\p{L}+",
                    "a\xE1\xB2\x89"
                    "1"),
              ElementsAre("+a\xE1\xB2\x89", "-1"));
  EXPECT_THAT(parts("[^\\s\\p{L}]", "a!"), ElementsAre("-a", "+!"));
  EXPECT_THAT(parts("[]x]", "a]x"), ElementsAre("-a", "+]", "+x"));
  EXPECT_THAT(parts("x*", "axb"), ElementsAre("+", "-a", "+x", "-b", "+"));
  EXPECT_EQ(tokenizer::Regex::Compile("a{2}+").status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(tokenizer::Regex::Compile("[a[b]]").status().code(), absl::StatusCode::kUnimplemented);
  for (const char* unknown :
       {"\\h", "\\v", "\\b", "[\\b]", "\\C", "\\R", "\\X", "\\K", "\\Qa\\E"}) {
    EXPECT_EQ(tokenizer::Regex::Compile(unknown).status().code(), absl::StatusCode::kUnimplemented)
        << unknown;
  }
  EXPECT_EQ(tokenizer::Regex::Compile("\\p").status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace strata
