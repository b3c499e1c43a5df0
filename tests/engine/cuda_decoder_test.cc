// A whole step of the CUDA model (DecoderPass) on the CPU: its kernels emulated, its matrix
// products plain loops, everything else as on a GPU. Against the CPU's model, and bit for bit
// against itself.
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "services/verify/engine/cpu_model.h"
#include "services/verify/engine/cuda/decoder_memory.h"
#include "services/verify/engine/cuda/decoder_pass.h"
#include "services/verify/engine/cuda/step.h"
#include "services/verify/engine/decoder_weights.h"
#include "services/verify/engine/ranking.h"
#include "tests/engine/cuda_emulation.h"
#include "tests/engine/test_paths.h"
#include "tests/engine/tiny_model.h"

namespace strata::engine::cuda {
namespace {

using testing::EmulatedLauncher;
using testing::TempDir;
using testing::TinyModel;
using testing::Turns;

constexpr int64_t kPages = 128;
constexpr int64_t kPositions = 256;

template <typename T>
T* Data(const at::Tensor& tensor) {
  return static_cast<T*>(tensor.data_ptr());
}

// What cuBLAS does on a GPU, row by row. Skips rows from `limit` on, which nobody may read.
template <typename T>
class PlainLinear final : public Linear<T> {
 public:
  explicit PlainLinear(LinearWeights weights)
      : weights_(std::move(weights)), floats_(weights_.weight.to(at::kFloat)) {}
  void Forward(const T* x, int64_t rows, T* y) const override {
    EXPECT_EQ(rows % kLinearRows, 0);
    const int64_t out = floats_.size(0), in = floats_.size(1);
    const float* w = Data<float>(floats_);
    for (int64_t r = 0; r < std::min(rows, limit); ++r) {
      for (int64_t o = 0; o < out; ++o) {
        double sum = weights_.bias.defined() ? ToFloat(Data<T>(weights_.bias)[o]) : 0;
        for (int64_t i = 0; i < in; ++i) sum += double{ToFloat(x[r * in + i])} * w[o * in + i];
        FromFloat(static_cast<float>(sum), y[r * out + o]);
      }
    }
  }
  int64_t limit = kStepRows;

 private:
  const LinearWeights weights_;
  const at::Tensor floats_;
};

// A CudaModel without the GPU.
template <typename T>
class EmulatedModel final : public Model {
 public:
  EmulatedModel(const ModelOptions& options, const ModelConfig& config, Turns turns)
      : config_(config), launcher_(turns) {
    auto memory = DecoderMemory<T>::Load(options, config, at::kCPU, [&](LinearWeights weights) {
      return linears_.emplace_back(std::make_unique<PlainLinear<T>>(std::move(weights))).get();
    });
    EXPECT_TRUE(memory.ok()) << memory.status().message();
    memory_ = std::move(*memory);
    // What nobody wrote must not matter.
    for (const at::Tensor& tensor : memory_->scratch()) tensor.fill_(NAN);
    pass_ = std::make_unique<DecoderPass<T>>(memory_->shape(), memory_->weights(),
                                             memory_->buffers(), memory_->cache(), launcher_);
  }

  void Forward(std::span<const ModelRow> rows, std::span<const AttentionRow> attention,
               std::span<const int32_t> logit_rows, float* logits, float* block_max) override {
    for (const StepRows& step : SplitIntoSteps(rows, attention, logit_rows)) {
      std::vector<int64_t> bytes((StepBytes(step) + 7) / 8);
      StepGrid grid = PackStep(step, AttentionGroupRows<T>(config_.heads / config_.kv_heads),
                               reinterpret_cast<std::byte*>(bytes.data()));
      const auto* input = reinterpret_cast<const StepInput*>(bytes.data());
      const auto count = static_cast<int64_t>(step.rows.size());
      for (const auto& linear : linears_) linear->limit = count;
      // Some blocks have nothing to do.
      grid.rows = std::min(grid.rows + 3, kStepRows);
      grid.groups = std::min(grid.groups + 2, kStepRows);
      pass_->RunLayers(input, grid);
      const auto wanted = static_cast<int64_t>(step.logit_rows.size());
      for (int64_t first = 0; first < wanted; first += kHeadRows) {
        const int64_t some = std::min(kHeadRows, wanted - first);
        pass_->RunHead(input, first, some);
        logits = std::copy_n(memory_->buffers().logits, some * config_.vocab_size, logits);
        block_max = std::copy_n(memory_->buffers().block_max,
                                some * LogitBlocks(config_.vocab_size), block_max);
      }
    }
  }
  Status MoveTokens(std::span<const KvMove> moves) override {
    pass_->MoveTokens(moves);
    return Status();
  }
  std::vector<std::string> EnsureRowInvariance() override { return {}; }

 private:
  const ModelConfig config_;
  EmulatedLauncher<T> launcher_;
  std::vector<std::unique_ptr<PlainLinear<T>>> linears_;
  std::unique_ptr<DecoderMemory<T>> memory_;
  std::unique_ptr<DecoderPass<T>> pass_;
};

// New tokens of one sequence, and where it keeps what it computed.
struct Sequence {
  std::vector<int32_t> pages;
  int committed = 0;
  std::vector<int32_t> tokens;
  std::vector<int> parents;

  int32_t slot_of(int place) const {
    return KvSlot(pages[place / kPageTokens], place % kPageTokens);
  }
  std::vector<int> PathTo(int node) const {
    std::vector<int> path;
    for (int i = node; i >= 0; i = parents[i]) path.insert(path.begin(), i);
    return path;
  }
};

// All sequences' rows, as Engine describes them to a Model, and the logits of all.
struct Batch {
  std::vector<ModelRow> rows;
  std::vector<AttentionRow> attention;
  std::deque<std::vector<int32_t>> scattered;
  std::vector<int32_t> logit_rows;

  void Add(const Sequence& sequence) {
    for (int n = 0; n < static_cast<int>(sequence.tokens.size()); ++n) {
      const std::vector<int> path = sequence.PathTo(n);
      const int position = sequence.committed + static_cast<int>(path.size()) - 1;
      const int place = sequence.committed + n;
      rows.push_back(
          {sequence.tokens[n], position, sequence.pages[place / kPageTokens], place % kPageTokens});
      AttentionRow row;
      row.row = static_cast<int64_t>(attention.size());
      row.position = position;
      row.pages = sequence.pages;
      // A chain lies in its pages by position.
      const bool chain = path.back() == static_cast<int>(path.size()) - 1;
      row.direct = chain ? position + 1 : sequence.committed;
      scattered.emplace_back();
      if (!chain) {
        for (int i : path) scattered.back().push_back(sequence.slot_of(sequence.committed + i));
      }
      row.scattered = scattered.back();
      logit_rows.push_back(static_cast<int32_t>(row.row));
      attention.push_back(row);
    }
  }
  std::vector<float> Run(Model& model, int64_t vocab) const {
    std::vector<float> logits(rows.size() * vocab), block_max(rows.size() * LogitBlocks(vocab));
    model.Forward(rows, attention, logit_rows, logits.data(), block_max.data());
    std::vector<float> expected(block_max.size());
    for (size_t r = 0; r < rows.size(); ++r) {
      BlockMaxima({&logits[r * vocab], static_cast<size_t>(vocab)},
                  &expected[r * LogitBlocks(vocab)]);
    }
    EXPECT_EQ(block_max, expected);
    return logits;
  }
};

struct Numbers {
  std::string architecture;
  bool bf16;
};
void PrintTo(const Numbers& numbers, std::ostream* out) {
  *out << numbers.architecture << (numbers.bf16 ? "_bf16" : "_fp32");
}

class CudaDecoderTest : public ::testing::TestWithParam<Numbers> {
 protected:
  void SetUp() override {
    TinyModel tiny;
    tiny.architecture = GetParam().architecture;
    tiny.tied = tiny.architecture == "MistralForCausalLM";
    tiny.Write(dir_.path());
    auto config = LoadModelConfig(dir_.path());
    ASSERT_TRUE(config.ok());
    config_ = *config;
    options_.model_dir = dir_.path();
    options_.bf16 = GetParam().bf16;
    options_.max_positions = kPositions;
    options_.kv_pages = kPages;
    pages_.resize(kPages);
    std::iota(pages_.begin(), pages_.end(), 0);
    std::shuffle(pages_.begin(), pages_.end(), random_);
  }

  std::unique_ptr<Model> NewEmulated(Turns turns) {
    if (GetParam().bf16) return std::make_unique<EmulatedModel<Bf16>>(options_, config_, turns);
    return std::make_unique<EmulatedModel<float>>(options_, config_, turns);
  }

  Sequence NewSequence(int length) {
    Sequence sequence;
    for (int i = 0; i < length; i += kPageTokens) {
      sequence.pages.push_back(pages_.back());
      pages_.pop_back();
    }
    return sequence;
  }
  void SetTokens(Sequence& sequence, int count, bool tree) {
    sequence.tokens.clear();
    sequence.parents.clear();
    for (int n = 0; n < count; ++n) {
      sequence.tokens.push_back(static_cast<int32_t>(random_() % config_.vocab_size));
      sequence.parents.push_back(tree ? static_cast<int>(random_() % (n + 1)) - 1 : n - 1);
    }
  }

  std::mt19937 random_{11};
  TempDir dir_;
  ModelOptions options_;
  ModelConfig config_;
  std::vector<int32_t> pages_;
};

TEST_P(CudaDecoderTest, AgreesWithTheCpuAndWithItself) {
  c10::InferenceMode guard;
  const int64_t vocab = config_.vocab_size;
  auto emulated = NewEmulated(Turns::kAscending);
  auto cpu = LoadCpuModel(options_, config_);
  ASSERT_TRUE(cpu.ok()) << cpu.status().message();

  // Chains, then trees, then on from a committed path: several sequences at once.
  std::vector<Sequence> sequences;
  std::vector<std::vector<int32_t>> texts(3);  // committed
  for (const int length : {3, 37, 75}) {
    sequences.push_back(NewSequence(length + 40));
    SetTokens(sequences.back(), length, false);
  }
  for (int round = 0; round < 3; ++round) {
    Batch batch;
    for (const Sequence& sequence : sequences) batch.Add(sequence);
    const std::vector<float> got = batch.Run(*emulated, vocab);
    const std::vector<float> expected = batch.Run(**cpu, vocab);
    double error = 0, size = 0, worst = 0;
    for (size_t i = 0; i < got.size(); ++i) {
      const double difference = std::abs(got[i] - expected[i]);
      worst = std::max(worst, difference);
      error += difference * difference;
      size += double{expected[i]} * expected[i];
    }
    ASSERT_LT(std::sqrt(error / size), GetParam().bf16 ? 0.02 : 2e-6) << "round " << round;
    ASSERT_LT(worst, GetParam().bf16 ? 1 : 1e-4);

    // Another model, which computes the path to some node alone, token by token, has the same bits.
    auto other = NewEmulated(Turns::kShuffled);
    const size_t s = round;
    const int node = static_cast<int>(random_() % sequences[s].tokens.size());
    const std::vector<int> path = sequences[s].PathTo(node);
    std::vector<int32_t> plain = texts[s];
    for (int i : path) plain.push_back(sequences[s].tokens[i]);
    Sequence alone;
    alone.pages = sequences[2].pages;
    std::reverse(alone.pages.begin(), alone.pages.end());
    std::vector<float> last;
    for (size_t at = 0; at < plain.size();) {
      // In pieces, the last of one token.
      const size_t count = at + 1 == plain.size() ? 1 : std::min<size_t>(plain.size() - at - 1, 30);
      alone.committed = static_cast<int>(at);
      alone.tokens.assign(plain.begin() + at, plain.begin() + at + count);
      alone.parents.clear();
      for (size_t n = 0; n < count; ++n) alone.parents.push_back(static_cast<int>(n) - 1);
      Batch one;
      one.Add(alone);
      last = one.Run(*other, vocab);
      at += count;
    }
    int64_t row = node;
    for (size_t i = 0; i < s; ++i) row += static_cast<int64_t>(sequences[i].tokens.size());
    ASSERT_EQ(std::memcmp(&last[last.size() - vocab], &got[row * vocab], vocab * sizeof(float)), 0)
        << "round " << round;

    // Commits a path of each, and goes on with trees.
    for (size_t i = 0; i < sequences.size(); ++i) {
      Sequence& sequence = sequences[i];
      const int end = static_cast<int>(sequence.tokens.size()) - 1;
      std::vector<KvMove> moves;
      int to = sequence.committed;
      for (int n : sequence.PathTo(end)) {
        texts[i].push_back(sequence.tokens[n]);
        const KvMove move{sequence.slot_of(sequence.committed + n), sequence.slot_of(to++)};
        if (move.from != move.to) moves.push_back(move);
      }
      ASSERT_TRUE(emulated->MoveTokens(moves).ok());
      ASSERT_TRUE((*cpu)->MoveTokens(moves).ok());
      sequence.committed = to;
      SetTokens(sequence, 1 + static_cast<int>(random_() % 12), true);
    }
  }
}

// More rows than a step has.
TEST_P(CudaDecoderTest, LongPassesAreSeveralSteps) {
  c10::InferenceMode guard;
  const int64_t vocab = config_.vocab_size;
  auto emulated = NewEmulated(Turns::kAscending);
  std::vector<Sequence> sequences;
  Batch all;
  for (int s = 0; s < 3; ++s) {
    sequences.push_back(NewSequence(180));
    SetTokens(sequences.back(), 180, false);
    all.Add(sequences.back());
  }
  ASSERT_GT(static_cast<int64_t>(all.rows.size()), kStepRows);
  // Some rows only, so that not all steps have as many.
  std::vector<int32_t> wanted;
  for (int32_t r = 0; r < 540; r += 1 + r / 100) wanted.push_back(r);
  all.logit_rows = wanted;
  std::vector<float> got(wanted.size() * vocab), maxima(wanted.size() * LogitBlocks(vocab));
  emulated->Forward(all.rows, all.attention, wanted, got.data(), maxima.data());
  for (int s = 0; s < 3; ++s) {
    Batch one;
    one.Add(sequences[s]);
    const std::vector<float> expected = one.Run(*emulated, vocab);
    for (size_t i = 0; i < wanted.size(); ++i) {
      if (wanted[i] / 180 != s) continue;
      ASSERT_EQ(
          std::memcmp(&got[i * vocab], &expected[wanted[i] % 180 * vocab], vocab * sizeof(float)),
          0)
          << wanted[i];
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, CudaDecoderTest,
                         ::testing::Values(Numbers{"LlamaForCausalLM", false},
                                           Numbers{"LlamaForCausalLM", true},
                                           Numbers{"MistralForCausalLM", true},
                                           Numbers{"Qwen2ForCausalLM", false}),
                         [](const auto& info) { return ::testing::PrintToString(info.param); });

}  // namespace
}  // namespace strata::engine::cuda
