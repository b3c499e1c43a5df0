// The engine on real models against what `transformers` computed on the same folder
// (tests/tools/engine_reference.py), and on small ones of every kind (variant_reference.py).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "services/verify/engine/engine.h"
#include "services/verify/engine/json.h"
#include "tests/engine/test_paths.h"
#include "tests/engine/tiny_model.h"

namespace strata::engine {
namespace {

using testing::ReadWholeFile;
using testing::RequiredEnv;
using testing::TestDevice;

std::vector<int32_t> Ids(const Json& list) {
  std::vector<int32_t> ids;
  for (const Json& item : list.items()) ids.push_back(static_cast<int32_t>(*item.AsInt()));
  return ids;
}

int32_t Best(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

class ReferenceTest : public ::testing::TestWithParam<const char*> {};

TEST_P(ReferenceTest, Fp32LogitsAndGreedyTokensAgree) {
  const std::string model_dir = RequiredEnv(GetParam());
  const std::string root = RequiredEnv("STRATA_TEST_REFERENCE");
  if (model_dir.empty() || root.empty()) return;
  const std::string dir = root + model_dir.substr(model_dir.rfind('/'));
  auto reference = Json::Parse(ReadWholeFile(dir + "/reference.json"));
  ASSERT_TRUE(reference.ok()) << dir << ": " << reference.status().message();
  const std::string stored = ReadWholeFile(dir + "/logits.f32");

  EngineOptions options;
  options.model_dir = model_dir;
  options.device = TestDevice();
  options.dtype = DType::kFp32;
  options.kv_tokens = 2048;
  auto engine = Engine::Load(options);
  ASSERT_TRUE(engine.ok()) << engine.status().message();
  EXPECT_TRUE((*engine)->info().exact);
  const int64_t vocab = (*engine)->info().vocab_size;

  const auto& prompts = reference->Find("prompts")->items();
  ASSERT_EQ(prompts.size(), 20u);
  float worst = 0;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const std::vector<int32_t> tokens = Ids(*prompts[i].Find("prompt_tokens"));
    const std::vector<int32_t> greedy = Ids(*prompts[i].Find("greedy_tokens"));
    ASSERT_EQ(greedy.size(), 64u);
    const int64_t offset = *prompts[i].Find("logits_offset")->AsInt();
    ASSERT_LE(offset + vocab * 4, static_cast<int64_t>(stored.size()));
    std::vector<float> expected(vocab);
    std::memcpy(expected.data(), stored.data() + offset, vocab * 4);

    // Prefill, then the 64 tokens as a draft tree of one path: its rows are the
    // logits that plain decoding would see (TreesGiveTheBitsOfPlainSteps).
    auto sequence = (*engine)->NewSequence();
    const std::vector<int32_t> last = {static_cast<int32_t>(tokens.size()) - 1};
    ForwardOutput output;
    const SequenceInput prefill{sequence.get(), tokens, {}, last};
    ASSERT_TRUE((*engine)->Forward({&prefill, 1}, output).ok());
    std::vector<int32_t> all(tokens.size());
    std::iota(all.begin(), all.end(), 0);
    ASSERT_TRUE((*engine)->Commit(*sequence, all).ok());
    float difference = 0;
    for (int64_t v = 0; v < vocab; ++v) {
      difference = std::max(difference, std::abs(output.logits[v] - expected[v]));
    }
    EXPECT_LE(difference, 1e-3f) << "prompt " << i;
    worst = std::max(worst, difference);
    EXPECT_EQ(Best(output.row(0)), greedy[0]) << "prompt " << i;
    std::vector<int32_t> rows(greedy.size());
    std::iota(rows.begin(), rows.end(), 0);
    const SequenceInput rest{sequence.get(), greedy, {}, rows};
    ASSERT_TRUE((*engine)->Forward({&rest, 1}, output).ok());
    for (size_t t = 0; t + 1 < greedy.size(); ++t) {
      ASSERT_EQ(Best(output.row(t)), greedy[t + 1]) << "prompt " << i << " token " << t + 1;
    }
  }
  RecordProperty("largest_logit_difference", std::to_string(worst));
  std::printf("largest logit difference: %g\n", worst);
}

// bf16 has its own bits; what must hold is that the self-check finds them row-invariant.
TEST_P(ReferenceTest, Bf16IsExact) {
  const std::string model_dir = RequiredEnv(GetParam());
  if (model_dir.empty()) return;
  EngineOptions options;
  options.model_dir = model_dir;
  options.device = TestDevice();
  options.kv_tokens = 2048;
  auto engine = Engine::Load(options);
  ASSERT_TRUE(engine.ok()) << engine.status().message();
  EXPECT_TRUE((*engine)->info().exact)
      << ::testing::PrintToString((*engine)->info().exactness_notes);
}

// int8 weights make another model of it, exact relative to itself, that says nearly the same.
TEST_P(ReferenceTest, Int8IsExactAndAgreesWithFp32) {
  if (TestDevice() != "cpu") GTEST_SKIP() << "weights of 8 bits are for the CPU alone";
  const std::string model_dir = RequiredEnv(GetParam());
  const std::string root = RequiredEnv("STRATA_TEST_REFERENCE");
  if (model_dir.empty() || root.empty()) return;
  const std::string dir = root + model_dir.substr(model_dir.rfind('/'));
  auto reference = Json::Parse(ReadWholeFile(dir + "/reference.json"));
  ASSERT_TRUE(reference.ok()) << dir << ": " << reference.status().message();
  EngineOptions options;
  options.model_dir = model_dir;
  options.device = TestDevice();
  options.int8_weights = true;
  options.kv_tokens = 2048;
  auto engine = Engine::Load(options);
  ASSERT_TRUE(engine.ok()) << engine.status().message();
  EXPECT_TRUE((*engine)->info().exact)
      << ::testing::PrintToString((*engine)->info().exactness_notes);

  int agreed = 0, compared = 0;
  for (const Json& prompt : reference->Find("prompts")->items()) {
    std::vector<int32_t> tokens = Ids(*prompt.Find("prompt_tokens"));
    const std::vector<int32_t> greedy = Ids(*prompt.Find("greedy_tokens"));
    std::vector<int32_t> rows(greedy.size());
    std::iota(rows.begin(), rows.end(), static_cast<int32_t>(tokens.size()) - 1);
    tokens.insert(tokens.end(), greedy.begin(), greedy.end() - 1);
    auto sequence = (*engine)->NewSequence();
    ForwardOutput output;
    const SequenceInput input{sequence.get(), tokens, {}, rows};
    ASSERT_TRUE((*engine)->Forward({&input, 1}, output).ok());
    for (size_t t = 0; t < greedy.size(); ++t) agreed += Best(output.row(t)) == greedy[t];
    compared += static_cast<int>(greedy.size());
  }
  std::printf("%d of %d next tokens are those of fp32\n", agreed, compared);
  // bf16 gives 98 % of SmolLM2's; the smaller a model, the more 8 bits change.
  EXPECT_GE(agreed, compared * 0.85);
}

INSTANTIATE_TEST_SUITE_P(Models, ReferenceTest,
                         ::testing::Values("STRATA_TEST_MODEL", "STRATA_TEST_MODEL_QWEN2"),
                         [](const auto& info) {
                           return std::string(info.param) == "STRATA_TEST_MODEL" ? "Llama"
                                                                                 : "Qwen2";
                         });

class VariantTest : public ::testing::TestWithParam<const char*> {};

TEST_P(VariantTest, Fp32LogitsAgreeAtEveryPosition) {
  const std::string root = RequiredEnv("STRATA_TEST_REFERENCE");
  if (root.empty()) return;
  const std::string dir = root + "/variants/" + GetParam();
  auto reference = Json::Parse(ReadWholeFile(dir + "/reference.json"));
  ASSERT_TRUE(reference.ok()) << dir << ": " << reference.status().message();
  const std::vector<int32_t> tokens = Ids(*reference->Find("tokens"));
  const std::string stored = ReadWholeFile(dir + "/logits.f32");

  EngineOptions options;
  options.model_dir = dir;
  options.device = TestDevice();
  options.dtype = DType::kFp32;
  options.kv_tokens = 1024;
  auto engine = Engine::Load(options);
  ASSERT_TRUE(engine.ok()) << engine.status().message();
  const int64_t vocab = (*engine)->info().vocab_size;
  ASSERT_EQ(stored.size(), tokens.size() * vocab * sizeof(float));
  std::vector<float> expected(tokens.size() * vocab);
  std::memcpy(expected.data(), stored.data(), stored.size());

  // In two passes, so that the second reads keys that the first wrote.
  auto sequence = (*engine)->NewSequence();
  float worst = 0, largest = 0;
  size_t begin = 0;
  for (const size_t end : {tokens.size() / 3, tokens.size()}) {
    const std::span<const int32_t> part = std::span(tokens).subspan(begin, end - begin);
    std::vector<int32_t> rows(part.size());
    std::iota(rows.begin(), rows.end(), 0);
    ForwardOutput output;
    const SequenceInput input{sequence.get(), part, {}, rows};
    ASSERT_TRUE((*engine)->Forward({&input, 1}, output).ok());
    for (size_t row = 0; row < part.size(); ++row) {
      for (int64_t v = 0; v < vocab; ++v) {
        const float wanted = expected[(begin + row) * vocab + v];
        worst = std::max(worst, std::abs(output.row(row)[v] - wanted));
        largest = std::max(largest, std::abs(wanted));
      }
    }
    ASSERT_TRUE((*engine)->Commit(*sequence, rows).ok());
    begin = end;
  }
  EXPECT_GT(largest, 1);
  EXPECT_LE(worst, 1e-3f) << "of logits up to " << largest;
}

INSTANTIATE_TEST_SUITE_P(Variants, VariantTest,
                         ::testing::Values("llama3_rope", "llama3_rope_older", "linear_rope",
                                           "linear_rope_older", "biases", "mistral",
                                           "qwen2_untied"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace strata::engine
