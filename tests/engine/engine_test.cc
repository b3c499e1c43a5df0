// The engine on small models with random weights: every way of running the same
// tokens gives the same bits; every damaged input gives a sentence.
#include "services/verify/engine/engine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <random>

#include "services/verify/engine/self_check.h"
#include "tests/engine/test_paths.h"
#include "tests/engine/tiny_model.h"

namespace strata::engine {
namespace {

using testing::ReadWholeFile;
using testing::TempDir;
using testing::TestDevice;
using testing::TinyModel;
using testing::WriteFile;

struct Numbers {
  DType dtype = DType::kBf16;
  bool int8_weights = false;
};

std::string Name(const Numbers& numbers) {
  return std::string(DTypeName(numbers.dtype)) + (numbers.int8_weights ? "_int8" : "");
}
void PrintTo(const Numbers& numbers, std::ostream* out) { *out << Name(numbers); }

EngineOptions Options(const std::string& dir, Numbers numbers = {}) {
  EngineOptions options;
  options.model_dir = dir;
  options.device = TestDevice();
  options.dtype = numbers.dtype;
  options.int8_weights = numbers.int8_weights;
  options.threads = 2;
  options.kv_tokens = 1024;
  return options;
}

std::vector<int32_t> Iota(int count) {
  std::vector<int32_t> rows(count);
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

std::vector<int32_t> RandomTokens(std::mt19937& random, int count, int64_t vocab) {
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % vocab);
  return tokens;
}

bool SameBits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

// Logits of every token, fed one by one.
std::vector<float> OneByOne(Engine& engine, std::span<const int32_t> tokens) {
  auto sequence = engine.NewSequence();
  ForwardOutput output;
  std::vector<float> logits;
  const std::vector<int32_t> row = {0};
  for (const int32_t& token : tokens) {
    const SequenceInput input{sequence.get(), {&token, 1}, {}, row};
    EXPECT_TRUE(engine.Forward({&input, 1}, output).ok());
    EXPECT_TRUE(engine.Commit(*sequence, row).ok());
    logits.insert(logits.end(), output.logits.begin(), output.logits.end());
  }
  return logits;
}

class TinyEngineTest : public ::testing::TestWithParam<std::tuple<std::string, Numbers>> {
 protected:
  void SetUp() override {
    if (std::get<1>(GetParam()).int8_weights && TestDevice() != "cpu") {
      GTEST_SKIP() << "weights of 8 bits are for the CPU alone";
    }
    TinyModel model;
    model.architecture = std::get<0>(GetParam());
    model.tied = model.architecture == "MistralForCausalLM";
    model.shards = 3;
    model.Write(dir_.path());
    auto engine = Engine::Load(Options(dir_.path(), std::get<1>(GetParam())));
    ASSERT_TRUE(engine.ok()) << engine.status().message();
    engine_ = std::move(*engine);
  }
  TempDir dir_;
  std::unique_ptr<Engine> engine_;
};

TEST_P(TinyEngineTest, SelfCheckHolds) {
  EXPECT_TRUE(engine_->info().exact) << ::testing::PrintToString(engine_->info().exactness_notes);
  EXPECT_EQ(engine_->info().eos_token_ids, (std::vector<int32_t>{2, 7}));
  EXPECT_EQ(engine_->kv_pages_free(), engine_->info().kv_pages_total);
}

TEST_P(TinyEngineTest, PassesTellWhereTheirTimeWent) {
  const WorkSeconds before = engine_->work_seconds();
  OneByOne(*engine_, std::vector<int32_t>{1, 2, 3});
  const WorkSeconds after = engine_->work_seconds();
  if (std::get<1>(GetParam()).dtype != DType::kBf16 || std::get<1>(GetParam()).int8_weights) {
    EXPECT_EQ(after, WorkSeconds{});
    return;
  }
  // Not where a GPU or oneDNN shares out the work.
  if (after == WorkSeconds{}) GTEST_SKIP() << "threads do not compute passes together here";
  for (size_t kind = 0; kind < kWorkKinds; ++kind) EXPECT_GT(after[kind], before[kind]) << kind;
}

// Random trees over random prefixes, several sequences a pass, against one token at a time.
TEST_P(TinyEngineTest, TreesGiveTheBitsOfPlainSteps) {
  std::mt19937 random(3);
  const int64_t vocab = engine_->info().vocab_size;
  for (int round = 0; round < 40; ++round) {
    const int sequences = 1 + random() % 3;
    std::vector<std::unique_ptr<KvSequence>> kv;
    std::vector<std::vector<int32_t>> prefixes, tokens, parents, rows;
    for (int s = 0; s < sequences; ++s) {
      kv.push_back(engine_->NewSequence());
      prefixes.push_back(RandomTokens(random, 1 + random() % 40, vocab));
      const int nodes = 1 + random() % 24;
      tokens.push_back(RandomTokens(random, nodes, vocab));
      std::vector<int32_t> parent(nodes);
      for (int i = 0; i < nodes; ++i) parent[i] = static_cast<int32_t>(random() % (i + 1)) - 1;
      parents.push_back(parent);
      rows.push_back(Iota(nodes));
    }
    ForwardOutput output;
    std::vector<SequenceInput> inputs;
    for (int s = 0; s < sequences; ++s) inputs.push_back({kv[s].get(), prefixes[s], {}, {}});
    ASSERT_TRUE(engine_->Forward(inputs, output).ok());
    for (int s = 0; s < sequences; ++s) {
      ASSERT_TRUE(engine_->Commit(*kv[s], Iota(static_cast<int>(prefixes[s].size()))).ok());
    }
    inputs.clear();
    for (int s = 0; s < sequences; ++s)
      inputs.push_back({kv[s].get(), tokens[s], parents[s], rows[s]});
    ASSERT_TRUE(engine_->Forward(inputs, output).ok());
    int64_t base = 0;
    for (int s = 0; s < sequences; ++s) {
      // A random node and its path, checked row by row, then committed.
      std::vector<int32_t> path;
      for (int32_t r = static_cast<int32_t>(random() % tokens[s].size()); r >= 0;
           r = parents[s][r]) {
        path.insert(path.begin(), r);
      }
      std::vector<int32_t> plain = prefixes[s];
      for (int32_t r : path) plain.push_back(tokens[s][r]);
      const int32_t next = static_cast<int32_t>(random() % vocab);
      plain.push_back(next);
      const std::vector<float> expected = OneByOne(*engine_, plain);
      for (size_t i = 0; i < path.size(); ++i) {
        ASSERT_TRUE(SameBits(output.row(base + path[i]),
                             std::span(expected).subspan((prefixes[s].size() + i) * vocab, vocab)))
            << "round " << round << " sequence " << s << " depth " << i;
      }
      ASSERT_TRUE(engine_->Commit(*kv[s], path).ok());
      ASSERT_EQ(kv[s]->length(), static_cast<int64_t>(plain.size()) - 1);
      ForwardOutput after;
      const std::vector<int32_t> first = {0};
      const SequenceInput input{kv[s].get(), {&next, 1}, {}, first};
      ASSERT_TRUE(engine_->Forward({&input, 1}, after).ok());
      ASSERT_TRUE(SameBits(after.row(0), std::span(expected).last(vocab)));
      base += static_cast<int64_t>(tokens[s].size());
    }
  }
  EXPECT_EQ(engine_->kv_pages_free(), engine_->info().kv_pages_total);
}

// More rows than one matrix product takes; 513 leaves one row over.
TEST_P(TinyEngineTest, PassesOfManyRowsGiveTheBitsOfPlainSteps) {
  std::mt19937 random(4);
  const int64_t vocab = engine_->info().vocab_size;
  for (const int length : {171, 250}) {
    std::vector<std::vector<int32_t>> tokens;
    std::vector<std::unique_ptr<KvSequence>> kv;
    std::vector<SequenceInput> inputs;
    const std::vector<int32_t> rows = Iota(length);
    for (int s = 0; s < 3; ++s) {
      tokens.push_back(RandomTokens(random, length, vocab));
      kv.push_back(engine_->NewSequence());
    }
    for (int s = 0; s < 3; ++s) inputs.push_back({kv[s].get(), tokens[s], {}, rows});
    ForwardOutput output;
    ASSERT_TRUE(engine_->Forward(inputs, output).ok());
    kv.clear();
    for (int s = 0; s < 3; ++s) {
      const std::vector<float> expected = OneByOne(*engine_, tokens[s]);
      ASSERT_TRUE(
          SameBits(std::span(output.logits).subspan(s * length * vocab, length * vocab), expected))
          << length << " rows, sequence " << s;
    }
  }
}

// What one sequence computed, in chunks of any size, another goes on from; both then take trees.
TEST_P(TinyEngineTest, SharedPagesGiveTheBitsOfPlainSteps) {
  std::mt19937 random(6);
  const int64_t vocab = engine_->info().vocab_size;
  const int page = engine_->info().kv_page_tokens;
  ForwardOutput output;
  // The rows of a random tree behind what is committed, one path of which is then committed.
  const auto check_tree = [&](KvSequence& sequence, std::vector<int32_t>& tokens) {
    const int nodes = 1 + random() % 40;
    const std::vector<int32_t> tree = RandomTokens(random, nodes, vocab);
    std::vector<int32_t> parents(nodes), path;
    for (int i = 0; i < nodes; ++i) parents[i] = static_cast<int32_t>(random() % (i + 1)) - 1;
    const std::vector<int32_t> rows = Iota(nodes);
    const SequenceInput input{&sequence, tree, parents, rows};
    ASSERT_TRUE(engine_->Forward({&input, 1}, output).ok());
    for (int32_t r = nodes - 1; r >= 0; r = parents[r]) path.insert(path.begin(), r);
    const size_t before = tokens.size();
    for (const int32_t r : path) tokens.push_back(tree[r]);
    const std::vector<float> expected = OneByOne(*engine_, tokens);
    for (size_t i = 0; i < path.size(); ++i) {
      ASSERT_TRUE(
          SameBits(output.row(path[i]), std::span(expected).subspan((before + i) * vocab, vocab)))
          << "depth " << i;
    }
    ASSERT_TRUE(engine_->Commit(sequence, path).ok());
    ASSERT_EQ(sequence.length(), static_cast<int64_t>(tokens.size()));
  };
  for (int round = 0; round < 12; ++round) {
    std::vector<int32_t> tokens = RandomTokens(random, 1 + random() % 90, vocab);
    auto first = engine_->NewSequence();
    for (size_t at = 0; at < tokens.size();) {
      const size_t chunk = std::min<size_t>(1 + random() % 30, tokens.size() - at);
      const SequenceInput input{first.get(), std::span(tokens).subspan(at, chunk), {}, {}};
      ASSERT_TRUE(engine_->Forward({&input, 1}, output).ok());
      ASSERT_TRUE(engine_->Commit(*first, Iota(static_cast<int>(chunk))).ok());
      at += chunk;
    }
    std::vector<std::unique_ptr<KvPage>> pages;
    std::vector<const KvPage*> prefix;
    while (auto shared = engine_->SharePage(*first, static_cast<int64_t>(pages.size()))) {
      pages.push_back(std::move(shared));
    }
    ASSERT_EQ(pages.size(), tokens.size() / page);
    EXPECT_EQ(engine_->SharePage(*first, -1), nullptr);
    const size_t adopted = random() % (pages.size() + 1);
    for (size_t i = 0; i < adopted; ++i) prefix.push_back(pages[i].get());
    const bool goes_on = random() % 2 == 0;
    if (!goes_on) first.reset();
    auto second = engine_->NewSequence(prefix);
    pages.clear();
    std::vector<int32_t> other(tokens.begin(), tokens.begin() + prefix.size() * page);
    ASSERT_EQ(second->length(), static_cast<int64_t>(other.size()));
    for (int turn = 0; turn < 2; ++turn) {
      check_tree(*second, other);
      if (goes_on) check_tree(*first, tokens);
    }
  }
  EXPECT_EQ(engine_->kv_pages_kept(), 0);
  EXPECT_EQ(engine_->kv_pages_free(), engine_->info().kv_pages_total);
}

TEST_P(TinyEngineTest, SharedPagesAreFreedOnceByWhoeverIsLast) {
  const int64_t total = engine_->info().kv_pages_total;
  const auto free_and_kept = [&] {
    return std::pair(total - engine_->kv_pages_free(), engine_->kv_pages_kept());
  };
  using Counts = std::pair<int64_t, int64_t>;
  const std::vector<int32_t> tokens(40, 1);
  ForwardOutput output;
  auto sequence = engine_->NewSequence();
  const SequenceInput input{sequence.get(), tokens, {}, {}};
  ASSERT_TRUE(engine_->Forward({&input, 1}, output).ok());
  // Not yet committed.
  EXPECT_EQ(engine_->SharePage(*sequence, 0), nullptr);
  ASSERT_TRUE(engine_->Commit(*sequence, Iota(40)).ok());
  EXPECT_EQ(engine_->SharePage(*sequence, 2), nullptr);
  auto one = engine_->SharePage(*sequence, 0), two = engine_->SharePage(*sequence, 1);
  auto two_again = engine_->SharePage(*sequence, 1);
  EXPECT_EQ(free_and_kept(), Counts(3, 0));
  EXPECT_TRUE(one->in_use());
  sequence.reset();
  EXPECT_FALSE(one->in_use());
  EXPECT_EQ(free_and_kept(), Counts(2, 2));
  two.reset();
  EXPECT_EQ(free_and_kept(), Counts(2, 2));

  const std::vector<const KvPage*> prefix = {one.get(), two_again.get()};
  sequence = engine_->NewSequence(prefix);
  auto other = engine_->NewSequence(prefix);
  EXPECT_EQ(sequence->length(), 32);
  EXPECT_EQ(free_and_kept(), Counts(2, 0));
  // New rows take pages of their own and give them back.
  const SequenceInput more{sequence.get(), tokens, {}, {}};
  ASSERT_TRUE(engine_->Forward({&more, 1}, output).ok());
  EXPECT_EQ(free_and_kept(), Counts(5, 0));
  ASSERT_TRUE(engine_->Commit(*sequence, {}).ok());
  EXPECT_EQ(free_and_kept(), Counts(2, 0));
  two_again.reset();
  sequence.reset();
  EXPECT_EQ(free_and_kept(), Counts(2, 0));
  other.reset();
  EXPECT_EQ(free_and_kept(), Counts(1, 1));
  one.reset();
  EXPECT_EQ(free_and_kept(), Counts(0, 0));
}

// Weights and activations of 8 bits move logits by little.
class Int8EngineTest : public TinyEngineTest {};

TEST_P(Int8EngineTest, StaysCloseToNativeWeights) {
  Numbers numbers = std::get<1>(GetParam());
  EXPECT_TRUE(engine_->info().int8_weights);
  numbers.int8_weights = false;
  auto native = Engine::Load(Options(dir_.path(), numbers));
  ASSERT_TRUE(native.ok());
  std::mt19937 random(9);
  const std::vector<int32_t> tokens = RandomTokens(random, 60, engine_->info().vocab_size);
  const std::vector<float> expected = OneByOne(**native, tokens);
  const std::vector<float> got = OneByOne(*engine_, tokens);
  ASSERT_EQ(got.size(), expected.size());
  double error = 0, size = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    error += (got[i] - expected[i]) * (got[i] - expected[i]);
    size += expected[i] * expected[i];
  }
  EXPECT_GT(error, 0);
  // Layers of 64 random weights average little out; real models are in reference_test.cc.
  EXPECT_LT(std::sqrt(error / size), 0.15);
}

TEST_P(TinyEngineTest, BadBatchesChangeNothing) {
  auto sequence = engine_->NewSequence();
  const std::vector<int32_t> good = {1, 2, 3};
  ForwardOutput output;
  SequenceInput input{sequence.get(), good, {}, {}};
  ASSERT_TRUE(engine_->Forward({&input, 1}, output).ok());
  ASSERT_TRUE(engine_->Commit(*sequence, Iota(3)).ok());
  const int64_t free = engine_->kv_pages_free();

  auto refused = [&](SequenceInput bad, ErrorCode code, const std::string& text) {
    const Status status = engine_->Forward({&bad, 1}, output);
    EXPECT_EQ(status.code(), code) << text;
    EXPECT_NE(status.message().find(text), std::string::npos) << status.message();
    EXPECT_EQ(engine_->kv_pages_free(), free);
    EXPECT_EQ(sequence->length(), 3);
  };
  const std::vector<int32_t> over = {101}, negative = {-1}, parents = {0}, two = {-1, -1, 2};
  const std::vector<int32_t> rows = {3}, unordered = {1, 0};
  const std::vector<int32_t> long_chain(254, 1), huge(2000, 1), flat(2000, -1);
  refused({sequence.get(), over, {}, {}}, ErrorCode::kInvalidArgument, "token id 101");
  refused({sequence.get(), negative, {}, {}}, ErrorCode::kInvalidArgument, "token id -1");
  refused({sequence.get(), {}, {}, {}}, ErrorCode::kInvalidArgument, "no tokens");
  refused({sequence.get(), negative, two, {}}, ErrorCode::kInvalidArgument, "3 parents");
  refused({sequence.get(), good, two, {}}, ErrorCode::kInvalidArgument, "parent 2");
  refused({sequence.get(), good, {}, rows}, ErrorCode::kInvalidArgument, "logit_rows");
  refused({sequence.get(), good, {}, unordered}, ErrorCode::kInvalidArgument, "logit_rows");
  refused({sequence.get(), long_chain, {}, {}}, ErrorCode::kInvalidArgument, "longest sequence");
  refused({sequence.get(), huge, flat, {}}, ErrorCode::kResourceExhausted, "KV cache");
  refused({nullptr, good, {}, {}}, ErrorCode::kInvalidArgument, "no sequence");
  const std::vector<int32_t> not_a_path = {1}, past = {5};
  EXPECT_FALSE(engine_->Commit(*sequence, not_a_path).ok());
  EXPECT_FALSE(engine_->Commit(*sequence, past).ok());

  const std::vector<int32_t> next = {4};
  const std::vector<int32_t> row = {0};
  SequenceInput again{sequence.get(), next, {}, row};
  ASSERT_TRUE(engine_->Forward({&again, 1}, output).ok());
  const std::vector<int32_t> whole = {1, 2, 3, 4};
  const std::vector<float> expected = OneByOne(*engine_, whole);
  EXPECT_TRUE(SameBits(output.row(0), std::span(expected).last(101)));
}

std::string ParamName(const ::testing::TestParamInfo<std::tuple<std::string, Numbers>>& info) {
  return std::get<0>(info.param) + "_" + Name(std::get<1>(info.param));
}
const auto kArchitectures =
    ::testing::Values("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM");

INSTANTIATE_TEST_SUITE_P(
    Architectures, TinyEngineTest,
    ::testing::Combine(kArchitectures,
                       ::testing::Values(Numbers{DType::kBf16, false}, Numbers{DType::kFp32, false},
                                         Numbers{DType::kBf16, true}, Numbers{DType::kFp32, true})),
    ParamName);
INSTANTIATE_TEST_SUITE_P(Architectures, Int8EngineTest,
                         ::testing::Combine(kArchitectures,
                                            ::testing::Values(Numbers{DType::kBf16, true},
                                                              Numbers{DType::kFp32, true})),
                         ParamName);

class LoadingTest : public ::testing::Test {
 protected:
  void SetUp() override { TinyModel().Write(dir_.path()); }
  void Refused(ErrorCode code, const std::string& text) {
    auto engine = Engine::Load(Options(dir_.path()));
    ASSERT_FALSE(engine.ok()) << text;
    EXPECT_EQ(engine.status().code(), code) << engine.status().message();
    EXPECT_NE(engine.status().message().find(text), std::string::npos) << engine.status().message();
  }
  void ReplaceInConfig(const std::string& from, const std::string& to) {
    std::string config = TinyModel().Config();
    const size_t at = config.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    WriteFile(dir_ / "config.json", config.replace(at, from.size(), to));
  }
  TempDir dir_;
};

TEST_F(LoadingTest, MissingFiles) {
  std::filesystem::remove(dir_ / "model.safetensors");
  Refused(ErrorCode::kNotFound, "model.safetensors");
  std::filesystem::remove(dir_ / "config.json");
  Refused(ErrorCode::kNotFound, "config.json");
  std::filesystem::remove_all(dir_.path());
  Refused(ErrorCode::kNotFound, "no such model folder");
}

TEST_F(LoadingTest, TruncatedWeights) {
  const std::string file = ReadWholeFile(dir_ / "model.safetensors");
  for (size_t size :
       {size_t{0}, size_t{7}, size_t{8}, size_t{300}, file.size() / 2, file.size() - 1}) {
    WriteFile(dir_ / "model.safetensors", file.substr(0, size));
    Refused(ErrorCode::kInvalidArgument, "truncated");
  }
}

TEST_F(LoadingTest, ShardsThatDoNotBelongTogether) {
  std::filesystem::remove(dir_ / "model.safetensors");
  TinyModel model;
  model.shards = 3;
  model.Write(dir_.path());
  ASSERT_TRUE(Engine::Load(Options(dir_.path())).ok());
  const std::string index = ReadWholeFile(dir_ / "model.safetensors.index.json");
  const std::string part = ReadWholeFile(dir_ / "part-1.safetensors");

  std::filesystem::remove(dir_ / "part-1.safetensors");
  Refused(ErrorCode::kNotFound, "part-1.safetensors");
  WriteFile(dir_ / "part-1.safetensors", part.substr(0, part.size() / 2));
  Refused(ErrorCode::kInvalidArgument, "part-1.safetensors: truncated");
  // A shard twice, and the tensors of another nowhere.
  WriteFile(dir_ / "part-1.safetensors", ReadWholeFile(dir_ / "part-0.safetensors"));
  Refused(ErrorCode::kInvalidArgument, "");
  WriteFile(dir_ / "part-1.safetensors", part);

  for (const auto& [damaged, says] : std::vector<std::pair<std::string, std::string>>{
           {index.substr(0, index.size() / 2), "index.json"},
           {"", "index.json"},
           {"[]", "weight_map"},
           {"{}", "\"weight_map\" is missing"},
           {R"({"weight_map": {}})", "\"weight_map\" is missing"},
           {R"({"weight_map": {"a": 7}})", "no proper file name"},
           {R"({"weight_map": {"a": "../part-0.safetensors"}})", "no proper file name"}}) {
    WriteFile(dir_ / "model.safetensors.index.json", damaged);
    Refused(ErrorCode::kInvalidArgument, says);
  }
  WriteFile(dir_ / "model.safetensors.index.json",
            R"({"weight_map": {"a": "part-9.safetensors"}})");
  Refused(ErrorCode::kNotFound, "part-9.safetensors");
}

// Optional, but not to be guessed at if it is there.
TEST_F(LoadingTest, DamagedGenerationConfig) {
  for (const char* damaged : {"", "{", "nonsense"}) {
    WriteFile(dir_ / "generation_config.json", damaged);
    Refused(ErrorCode::kInvalidArgument, "generation_config.json");
  }
  WriteFile(dir_ / "generation_config.json", R"({"eos_token_id": [3, 5]})");
  auto engine = Engine::Load(Options(dir_.path()));
  ASSERT_TRUE(engine.ok()) << engine.status().message();
  EXPECT_EQ((*engine)->info().eos_token_ids[0], 3);
  EXPECT_EQ((*engine)->info().eos_token_ids[1], 5);
}

TEST_F(LoadingTest, ConfigThatDoesNotFit) {
  ReplaceInConfig("\"hidden_size\": 48", "\"hidden_size\": 64");
  Refused(ErrorCode::kInvalidArgument, "has shape");
  ReplaceInConfig("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3");
  Refused(ErrorCode::kInvalidArgument, "model.layers.2");
  ReplaceInConfig("\"vocab_size\": 101", "\"vocab_size\": 100");
  Refused(ErrorCode::kInvalidArgument, "embed_tokens");
  // Refused before room is made for what no file has.
  ReplaceInConfig("\"intermediate_size\": 80", "\"intermediate_size\": 1048576");
  Refused(ErrorCode::kInvalidArgument, "mlp.gate_proj");
  ReplaceInConfig("\"vocab_size\": 101", "\"vocab_size\": -5");
  Refused(ErrorCode::kInvalidArgument, "\"vocab_size\" must be");
  ReplaceInConfig("\"vocab_size\": 101,", "");
  Refused(ErrorCode::kInvalidArgument, "\"vocab_size\" is missing");
  ReplaceInConfig("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 4");
  Refused(ErrorCode::kInvalidArgument, "multiple");
  ReplaceInConfig("\"head_dim\": 16", "\"head_dim\": 24");
  Refused(ErrorCode::kUnimplemented, "head_dim");
  ReplaceInConfig("silu", "gelu");
  Refused(ErrorCode::kUnimplemented, "hidden_act");
  ReplaceInConfig("LlamaForCausalLM", "MambaForCausalLM");
  Refused(ErrorCode::kUnimplemented, "MambaForCausalLM");
  ReplaceInConfig("\"rope_theta\": 10000.0",
                  "\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4.0}");
  Refused(ErrorCode::kUnimplemented, "yarn");
  WriteFile(dir_ / "config.json", "{");
  Refused(ErrorCode::kInvalidArgument, "config.json");
  WriteFile(dir_ / "config.json", "[]");
  Refused(ErrorCode::kInvalidArgument, "object");
}

TEST_F(LoadingTest, DamagedHeaderNeverCrashes) {
  const std::string file = ReadWholeFile(dir_ / "model.safetensors");
  std::mt19937 random(5);
  EngineOptions options = Options(dir_.path());
  options.self_check = false;
  int refused = 0;
  for (int i = 0; i < 200; ++i) {
    std::string damaged = file;
    for (int k = 0; k < 3; ++k) damaged[random() % 700] = static_cast<char>(random());
    WriteFile(dir_ / "model.safetensors", damaged);
    refused += !Engine::Load(options).ok();
  }
  EXPECT_GT(refused, 150);
}

TEST_F(LoadingTest, OptionsAreChecked) {
  EngineOptions options = Options(dir_.path());
  for (const char* device : {"tpu", "", "CPU", "cuda:", "cuda:-1", "cuda:1x", "cuda:99999999999"}) {
    options.device = device;
    const Status status = Engine::Load(options).status();
    EXPECT_EQ(status.code(), ErrorCode::kUnimplemented) << device;
    EXPECT_NE(status.message().find("is not supported (cpu"), std::string::npos)
        << status.message();
  }
  // A build without CUDA has no such device, one with CUDA no 100 of them.
  options.device = "cuda:99";
  const Status status = Engine::Load(options).status();
  if (status.code() == ErrorCode::kUnimplemented) {
    EXPECT_NE(status.message().find("needs a build with CUDA"), std::string::npos)
        << status.message();
  } else {
    EXPECT_EQ(status.code(), ErrorCode::kFailedPrecondition);
    EXPECT_NE(status.message().find("device \"cuda:99\""), std::string::npos) << status.message();
  }
  options = Options(dir_.path());
  options.kv_tokens = 1;
  EXPECT_EQ(Engine::Load(options).status().code(), ErrorCode::kInvalidArgument);
  options = Options(dir_.path());
  options.self_check = false;
  auto engine = Engine::Load(options);
  ASSERT_TRUE(engine.ok());
  EXPECT_FALSE((*engine)->info().exact);
}

}  // namespace
}  // namespace strata::engine
