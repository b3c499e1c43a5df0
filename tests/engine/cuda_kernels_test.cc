// The CUDA kernels' own code, run on the CPU (cuda_emulation.h): against the CPU's kernels and
// double precision, and bit for bit against themselves with other rows beside, other places of the
// same keys and values, and threads that take turns in another order.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <new>
#include <numeric>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "services/verify/engine/cuda/attention.h"
#include "services/verify/engine/cuda/kernels.h"
#include "services/verify/engine/kernels.h"
#include "services/verify/engine/ranking.h"
#include "tests/engine/cuda_emulation.h"

namespace strata::engine::cuda {
namespace {

using testing::EmulatedLauncher;
using testing::Turns;

constexpr Turns kAllTurns[] = {Turns::kAscending, Turns::kDescending, Turns::kShuffled};

// Vectors whose data is aligned as a device's memory is.
template <typename T>
struct Aligned {
  using value_type = T;
  Aligned() = default;
  template <typename U>
  explicit Aligned(const Aligned<U>&) {}
  T* allocate(size_t n) {
    return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t(64)));
  }
  void deallocate(T* p, size_t) { ::operator delete(p, std::align_val_t(64)); }
  bool operator==(const Aligned&) const { return true; }
};
template <typename T>
using Buffer = std::vector<T, Aligned<T>>;

template <typename T>
bool SameBits(const T* a, const T* b, int64_t count) {
  return std::memcmp(a, b, count * sizeof(T)) == 0;
}
template <typename T>
bool SameBits(const Buffer<T>& a, const Buffer<T>& b) {
  return a.size() == b.size() && SameBits(a.data(), b.data(), static_cast<int64_t>(a.size()));
}

template <typename T>
class CudaKernelsTest : public ::testing::Test {
 protected:
  static constexpr double kTolerance = sizeof(T) == 4 ? 3e-6 : 1.2e-2;

  Buffer<T> Random(int64_t count, float scale = 1) {
    Buffer<T> out(count);
    for (T& x : out) FromFloat(normal_(random_) * scale, x);
    return out;
  }
  Buffer<float> RandomFloats(int64_t count) {
    Buffer<float> out(count);
    for (float& x : out) x = normal_(random_);
    return out;
  }
  int Uniform(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }

  static void ExpectNear(const T* got, const double* expected, int64_t count,
                         const std::string& what) {
    for (int64_t i = 0; i < count; ++i) {
      ASSERT_NEAR(ToFloat(got[i]), expected[i], kTolerance * (1 + std::abs(expected[i])))
          << what << " element " << i;
    }
  }

  // A step of `rows` rows of which only the count and the tokens matter.
  static Buffer<std::byte> Step(int rows) {
    std::vector<ModelRow> model(rows);
    for (int i = 0; i < rows; ++i) model[i].token = (i * 7) % 11;
    const std::vector<AttentionRow> attention(rows);
    const StepRows all{model, attention, {}, 0};
    Buffer<std::byte> bytes(StepBytes(all));
    PackStep(all, 1, bytes.data());
    return bytes;
  }
  static const StepInput* In(const Buffer<std::byte>& bytes) {
    return reinterpret_cast<const StepInput*>(bytes.data());
  }

  std::mt19937 random_{7};
  std::normal_distribution<float> normal_;
};

using Types = ::testing::Types<float, Bf16>;
TYPED_TEST_SUITE(CudaKernelsTest, Types);

TYPED_TEST(CudaKernelsTest, EmbedTakesRowsOfTheTable) {
  using T = TypeParam;
  constexpr int kRows = 5, kPadded = 8;
  constexpr int64_t kWidth = 1040;
  const auto step = this->Step(kRows);
  const auto table = this->Random(11 * kWidth);
  for (const Turns turns : kAllTurns) {
    Buffer<float> out(kPadded * kWidth, -1);
    EmulatedLauncher<T>(turns).Embed({this->In(step), table.data(), kWidth, out.data()}, kPadded);
    for (int r = 0; r < kPadded; ++r) {
      for (int64_t i = 0; i < kWidth; ++i) {
        ASSERT_EQ(out[r * kWidth + i], r < kRows ? ToFloat(table[r * 7 % 11 * kWidth + i]) : -1);
      }
    }
  }
}

TYPED_TEST(CudaKernelsTest, AddRmsNormAgreesWithTheCpu) {
  using T = TypeParam;
  constexpr int kRows = 6, kPadded = 8;
  for (const int64_t width : {16, 48, 576, 1024, 4096}) {
    const auto step = this->Step(kRows);
    const auto residual = this->RandomFloats(kPadded * width), weight = this->RandomFloats(width);
    const auto delta = this->Random(kPadded * width);
    for (const bool with_delta : {false, true}) {
      Buffer<float> expected_residual = residual;
      Buffer<T> expected(kPadded * width);
      engine::AddRmsNorm(with_delta ? delta.data() : nullptr, weight.data(), 1e-5f, kRows, width,
                         expected_residual.data(), expected.data());
      std::optional<Buffer<T>> first;
      for (const Turns turns : kAllTurns) {
        Buffer<float> h = residual;
        Buffer<T> out(kPadded * width);
        AddRmsNormParams<T> params;
        params.step = this->In(step);
        params.delta = with_delta ? delta.data() : nullptr;
        params.weight = weight.data();
        params.eps = 1e-5f;
        params.width = width;
        params.residual = h.data();
        params.out = out.data();
        EmulatedLauncher<T>(turns).AddRmsNorm(params, kPadded);
        ASSERT_TRUE(SameBits(h, expected_residual)) << width;
        for (int64_t i = 0; i < kPadded * width; ++i) {
          const float x = ToFloat(expected[i]);
          ASSERT_NEAR(ToFloat(out[i]), x, this->kTolerance * (1 + std::abs(x))) << width;
        }
        if (!first) first = out;
        ASSERT_TRUE(SameBits(out, *first)) << width;
        // Rows taken from elsewhere, as before the head: the same bits.
        const std::vector<int32_t> source = {4, 1};
        h = residual;
        Buffer<T> some(2 * width);
        params.step = nullptr;
        params.source = source.data();
        params.residual = h.data();
        params.out = some.data();
        EmulatedLauncher<T>(turns).AddRmsNorm(params, 2);
        for (int i = 0; i < 2; ++i) {
          ASSERT_TRUE(SameBits(&some[i * width], &out[source[i] * width], width)) << width;
        }
      }
    }
  }
}

TYPED_TEST(CudaKernelsTest, SiluMultiplyAgreesWithTheCpu) {
  using T = TypeParam;
  constexpr int kRows = 3, kPadded = 4;
  for (const int64_t width : {16, 80, 1536}) {
    const auto step = this->Step(kRows);
    const auto gate_up = this->Random(kPadded * 2 * width, 4);
    Buffer<T> expected(kPadded * width), out(kPadded * width);
    engine::SiluMultiply(gate_up.data(), kRows, width, expected.data());
    EmulatedLauncher<T>().SiluMultiply({this->In(step), gate_up.data(), width, out.data()},
                                       kPadded);
    for (int64_t i = 0; i < kPadded * width; ++i) {
      const float x = ToFloat(expected[i]);
      ASSERT_NEAR(ToFloat(out[i]), x, this->kTolerance * (1 + std::abs(x))) << width;
    }
  }
}

TYPED_TEST(CudaKernelsTest, LogitsAndTheirBlockMaxima) {
  using T = TypeParam;
  for (const int64_t vocab : {1, 63, 64, 101, 1000, 2049}) {
    constexpr int kRows = 3;
    auto from = this->Random(kRows * vocab);
    FromFloat(std::nanf(""), from[vocab / 2]);
    Buffer<float> logits(kRows * vocab), block_max(kRows * LogitBlocks(vocab));
    for (const Turns turns : kAllTurns) {
      EmulatedLauncher<T>(turns).WidenLogits({from.data(), vocab, logits.data(), block_max.data()},
                                             kRows);
      for (int r = 0; r < kRows; ++r) {
        std::vector<float> row(vocab), expected(LogitBlocks(vocab));
        Widen(&from[r * vocab], vocab, row.data());
        BlockMaxima(row, expected.data());
        ASSERT_TRUE(SameBits(&logits[r * vocab], row.data(), vocab)) << vocab;
        ASSERT_TRUE(
            SameBits(&block_max[r * LogitBlocks(vocab)], expected.data(), LogitBlocks(vocab)))
            << vocab;
      }
    }
  }
}

TYPED_TEST(CudaKernelsTest, LinearRowsIsRowInvariant) {
  using T = TypeParam;
  constexpr int kRows = 5;
  for (const auto& [in, out] : {std::pair<int64_t, int64_t>{16, 3}, {48, 101}, {336, 40}}) {
    const auto x = this->Random(kRows * in), weight = this->Random(out * in),
               bias = this->Random(out);
    for (const bool with_bias : {false, true}) {
      LinearRowsParams<T> params{x.data(), weight.data(), with_bias ? bias.data() : nullptr,
                                 in,       out,           nullptr};
      std::vector<double> expected(kRows * out);
      for (int r = 0; r < kRows; ++r) {
        for (int64_t o = 0; o < out; ++o) {
          double& sum = expected[r * out + o];
          if (with_bias) sum = ToFloat(bias[o]);
          for (int64_t i = 0; i < in; ++i) {
            sum += double{ToFloat(x[r * in + i])} * ToFloat(weight[o * in + i]);
          }
        }
      }
      for (const Turns turns : kAllTurns) {
        Buffer<T> y(kRows * out), one(out);
        params.x = x.data();
        params.y = y.data();
        EmulatedLauncher<T>(turns).LinearRows(params, kRows);
        this->ExpectNear(y.data(), expected.data(), kRows * out, "linear");
        params.x = &x[3 * in];
        params.y = one.data();
        EmulatedLauncher<T>(turns).LinearRows(params, 1);
        ASSERT_TRUE(SameBits(one.data(), &y[3 * out], out));
      }
    }
    Buffer<T> y(kRows * out);
    EmulatedLauncher<T>().FillRows({bias.data(), out, y.data()}, kRows);
    for (int r = 0; r < kRows; ++r) ASSERT_TRUE(SameBits(&y[r * out], bias.data(), out));
  }
}

// Rows of a sequence follow each other and share a list of pages; a group never has others' rows.
TEST(PackStepTest, GroupsAreRowsOfOneSequence) {
  const std::vector<int32_t> first = {3, 1}, second = {2};
  std::vector<ModelRow> model(9);
  std::vector<AttentionRow> attention(9);
  for (int i = 0; i < 9; ++i) {
    if (i < 6) attention[i].pages = first;
    if (i == 6 || i == 7) attention[i].pages = second;
  }
  const StepRows rows{model, attention, {}, 0};
  Buffer<std::byte> bytes(StepBytes(rows));
  const StepGrid grid = PackStep(rows, 4, bytes.data());
  EXPECT_EQ(grid.rows, 9);
  EXPECT_EQ(grid.groups, 4);
  const auto* step = reinterpret_cast<const StepInput*>(bytes.data());
  const std::vector<std::pair<int, int>> expected = {{0, 4}, {4, 2}, {6, 2}, {8, 1}};
  ASSERT_EQ(step->groups, 4);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(step->group[i].first, expected[i].first);
    EXPECT_EQ(step->group[i].count, expected[i].second);
  }
  // The two lists, once each.
  EXPECT_EQ(static_cast<size_t>(StepBytes(rows)), sizeof(StepInput) + 3 * sizeof(int32_t));
}

// Keys and values in pages, and rows that attend to them.
template <typename T>
class CudaCacheTest : public CudaKernelsTest<T> {
 protected:
  static constexpr int kPages = 48;

  void SetShape(int heads, int kv_heads, int head_dim) {
    heads_ = heads;
    layout_ = {kPages, kv_heads, head_dim};
    // Whatever nobody wrote is NaN.
    cache_.resize(layout_.LayerSize());
    std::memset(static_cast<void*>(cache_.data()), 0xFF, cache_.size() * sizeof(T));
    pages_.resize(kPages);
    std::iota(pages_.begin(), pages_.end(), 0);
    std::shuffle(pages_.begin(), pages_.end(), this->random_);
    next_page_ = 0;
  }

  std::vector<int32_t> TakePages(int64_t tokens) {
    std::vector<int32_t> taken;
    for (int64_t i = 0; i < tokens; i += kPageTokens) taken.push_back(pages_.at(next_page_++));
    return taken;
  }

  // One token's keys and values, all heads.
  struct Token {
    Buffer<T> key;
    Buffer<T> value;
  };
  Token RandomToken() {
    const int64_t count = layout_.kv_heads * layout_.head_dim;
    return {this->Random(count), this->Random(count)};
  }
  void Put(const Token& token, int32_t slot) {
    for (int64_t head = 0; head < layout_.kv_heads; ++head) {
      T* to = cache_.data() + layout_.KeyOffset(slot, head);
      std::copy_n(&token.key[head * layout_.head_dim], layout_.head_dim, to);
      std::copy_n(&token.value[head * layout_.head_dim], layout_.head_dim,
                  to + layout_.ValueOffset());
    }
  }

  // A row with its own copy of the lists that `row` points to.
  struct Query {
    AttentionRow row;
    std::vector<int32_t> pages;
    std::vector<int32_t> scattered;
    std::vector<const Token*> path;  // by position
    Buffer<float> q;
  };

  // Softmax attention in double precision.
  std::vector<double> Expected(const Query& query) const {
    const int64_t dim = layout_.head_dim;
    std::vector<double> out(heads_ * dim);
    for (int64_t h = 0; h < heads_; ++h) {
      const int64_t kv = h / (heads_ / layout_.kv_heads);
      std::vector<double> weights;
      double top = -1e300, sum = 0;
      for (const Token* token : query.path) {
        double score = 0;
        for (int64_t d = 0; d < dim; ++d) {
          score += double{query.q[h * dim + d]} * ToFloat(token->key[kv * dim + d]);
        }
        weights.push_back(score);
        top = std::max(top, score);
      }
      for (double& w : weights) sum += w = std::exp(w - top);
      for (size_t p = 0; p < query.path.size(); ++p) {
        for (int64_t d = 0; d < dim; ++d) {
          out[h * dim + d] += weights[p] / sum * ToFloat(query.path[p]->value[kv * dim + d]);
        }
      }
    }
    return out;
  }

  Buffer<T> Attend(const std::vector<const Query*>& queries, Turns turns, int padding = 0) {
    std::vector<ModelRow> model(queries.size());
    std::vector<AttentionRow> attention;
    Buffer<float> q;
    for (const Query* query : queries) {
      AttentionRow row = query->row;
      row.row = static_cast<int64_t>(attention.size());
      // Rows of one sequence share its list, and are then computed in groups.
      const bool shares = row.row > 0 && queries[row.row - 1]->pages == query->pages;
      row.pages = shares ? attention.back().pages : query->pages;
      row.scattered = query->scattered;
      model[attention.size()].position = row.position;
      attention.push_back(row);
      q.insert(q.end(), query->q.begin(), query->q.end());
    }
    const StepRows rows{model, attention, {}, 0};
    Buffer<std::byte> step(StepBytes(rows));
    PackStep(rows, AttentionGroupRows<T>(heads_ / layout_.kv_heads), step.data());
    Buffer<T> out((queries.size() + padding) * heads_ * layout_.head_dim);
    AttentionParams<T> params;
    params.step = this->In(step);
    params.q = q.data();
    params.cache = cache_.data();
    params.layout = layout_;
    params.heads = static_cast<int>(heads_);
    params.out = out.data();
    EmulatedLauncher<T>(turns).PagedAttention(params,
                                              static_cast<int64_t>(queries.size()) + padding);
    return out;
  }

  int64_t heads_ = 0;
  KvLayout layout_;
  Buffer<T> cache_;
  std::vector<int32_t> pages_;
  size_t next_page_ = 0;
};
TYPED_TEST_SUITE(CudaCacheTest, Types);

// Random ragged batches of sequences with draft trees.
TYPED_TEST(CudaCacheTest, AttentionOverTreesOfARaggedBatch) {
  using T = TypeParam;
  struct Heads {
    int heads, kv_heads, head_dim;
  };
  for (const Heads& shape :
       {Heads{9, 3, 64}, Heads{8, 1, 128}, Heads{4, 4, 64}, Heads{14, 2, 48}, Heads{5, 1, 16},
        Heads{2, 1, 144}, Heads{4, 2, 256}, Heads{20, 2, 64}}) {
    SCOPED_TRACE(shape.head_dim);
    this->SetShape(shape.heads, shape.kv_heads, shape.head_dim);
    using Query = typename CudaCacheTest<T>::Query;
    std::deque<typename CudaCacheTest<T>::Token> tokens;
    std::deque<Query> queries;
    for (const int committed : {0, 1, 15, 16, 40, 100, 150}) {
      const int nodes = this->Uniform(1, 10);
      const std::vector<int32_t> pages = this->TakePages(committed + nodes);
      const auto slot_of = [&](int place) {
        return KvSlot(pages[place / kPageTokens], place % kPageTokens);
      };
      std::vector<const typename CudaCacheTest<T>::Token*> prefix;
      for (int place = 0; place < committed + nodes; ++place) {
        this->Put(tokens.emplace_back(this->RandomToken()), slot_of(place));
        if (place < committed) prefix.push_back(&tokens.back());
      }
      std::vector<int> parents(nodes);
      for (int n = 0; n < nodes; ++n) parents[n] = this->Uniform(-1, n - 1);
      for (int n = 0; n < nodes; ++n) {
        Query& query = queries.emplace_back();
        query.pages = pages;
        std::vector<int> path;
        for (int i = n; i >= 0; i = parents[i]) path.insert(path.begin(), i);
        query.path = prefix;
        for (int i : path) {
          query.path.push_back(&tokens[tokens.size() - nodes + i]);
          query.scattered.push_back(slot_of(committed + i));
        }
        query.row.direct = committed;
        query.row.position = static_cast<int64_t>(query.path.size()) - 1;
        query.q = this->RandomFloats(shape.heads * shape.head_dim);
        for (float& x : query.q) x /= std::sqrt(static_cast<float>(shape.head_dim));
      }
    }
    std::vector<const Query*> all;
    for (const Query& query : queries) all.push_back(&query);
    const int64_t width = shape.heads * shape.head_dim;
    const Buffer<T> out = this->Attend(all, Turns::kAscending, 3);
    for (size_t i = 0; i < all.size(); ++i) {
      const auto expected = this->Expected(*all[i]);
      this->ExpectNear(&out[i * width], expected.data(), width, "row " + std::to_string(i));
    }
    // Other neighbours, another place in the batch, another order of turns.
    std::vector<const Query*> some;
    std::vector<size_t> index(all.size());
    std::iota(index.begin(), index.end(), 0);
    std::shuffle(index.begin(), index.end(), this->random_);
    index.resize(index.size() / 2 + 1);
    for (size_t i : index) some.push_back(all[i]);
    for (const Turns turns : {Turns::kDescending, Turns::kShuffled}) {
      const Buffer<T> again = this->Attend(some, turns);
      for (size_t k = 0; k < some.size(); ++k) {
        ASSERT_TRUE(SameBits(&again[k * width], &out[index[k] * width], width)) << index[k];
      }
    }
  }
}

// The same keys and values, wherever they are stored, give the same bits.
TYPED_TEST(CudaCacheTest, PlaceDoesNotMatter) {
  using T = TypeParam;
  for (const int head_dim : {64, 128}) {
    for (const int length : {1, 3, 16, 17, 40, 63, 64, 130}) {
      this->SetShape(6, 2, head_dim);
      const std::vector<int32_t> pages = this->TakePages(length);
      std::deque<typename CudaCacheTest<T>::Token> tokens;
      typename CudaCacheTest<T>::Query query;
      query.pages = pages;
      for (int p = 0; p < length; ++p) {
        query.path.push_back(&tokens.emplace_back(this->RandomToken()));
        this->Put(tokens.back(), KvSlot(pages[p / kPageTokens], p % kPageTokens));
      }
      query.q = this->RandomFloats(6 * head_dim);
      query.row.position = length - 1;
      query.row.direct = length;
      const Buffer<T> whole = this->Attend({&query}, Turns::kAscending);
      for (int direct = std::max(0, length - 37); direct < length; direct += 5) {
        // The rest goes to slots far behind, in descending order.
        query.scattered.clear();
        for (int p = direct; p < length; ++p) {
          const int place = this->kPages * kPageTokens - 1 - 2 * (p - direct);
          query.scattered.push_back(KvSlot(this->pages_[place / kPageTokens], place % kPageTokens));
          this->Put(tokens[p], query.scattered.back());
        }
        query.row.direct = direct;
        ASSERT_TRUE(SameBits(this->Attend({&query}, Turns::kShuffled), whole))
            << "length " << length << " direct " << direct;
      }
    }
  }
}

TYPED_TEST(CudaCacheTest, RowsAreRotatedAndStored) {
  using T = TypeParam;
  constexpr int kHeads = 6, kKvHeads = 2, kDim = 48, kHalf = kDim / 2, kPositions = 40;
  constexpr int kRows = 7, kPadded = 9, kWidth = (kHeads + 2 * kKvHeads) * kDim;
  this->SetShape(kHeads, kKvHeads, kDim);
  const auto qkv = this->Random(kPadded * kWidth);
  Buffer<float> cosine(kPositions * kHalf), sine(kPositions * kHalf);
  for (int p = 0; p < kPositions; ++p) {
    for (int i = 0; i < kHalf; ++i) {
      cosine[p * kHalf + i] = std::cos(p * 0.1f * (i + 1));
      sine[p * kHalf + i] = std::sin(p * 0.1f * (i + 1));
    }
  }
  std::vector<ModelRow> model(kRows);
  for (int r = 0; r < kRows; ++r) {
    model[r] = {0, (r * 11) % kPositions, this->pages_[r], (r * 5) % kPageTokens};
  }
  const std::vector<AttentionRow> attention(kRows);
  const StepRows rows{model, attention, {}, 0};
  Buffer<std::byte> step(StepBytes(rows));
  PackStep(rows, 1, step.data());
  for (const Turns turns : kAllTurns) {
    Buffer<float> q(kPadded * kHeads * kDim, -1);
    Buffer<T> cache = this->cache_;
    EmulatedLauncher<T>(turns).StoreRows({this->In(step), qkv.data(), kHeads, this->layout_,
                                          cosine.data(), sine.data(), q.data(), cache.data()},
                                         kPadded);
    int64_t written = 0;
    for (int r = 0; r < kRows; ++r) {
      const float* c = &cosine[model[r].position * kHalf];
      const float* s = &sine[model[r].position * kHalf];
      const int32_t slot = KvSlot(model[r].page, model[r].slot);
      for (int head = 0; head < kHeads + kKvHeads; ++head) {
        const T* from = &qkv[r * kWidth + head * kDim];
        std::vector<double> expected(kDim);
        for (int i = 0; i < kHalf; ++i) {
          const double a = ToFloat(from[i]), b = ToFloat(from[i + kHalf]);
          expected[i] = a * c[i] - b * s[i];
          expected[i + kHalf] = b * c[i] + a * s[i];
        }
        if (head < kHeads) {
          for (int d = 0; d < kDim; ++d) {
            ASSERT_NEAR(q[(r * kHeads + head) * kDim + d], expected[d] / std::sqrt(double{kDim}),
                        1e-5);
          }
        } else {
          const T* key = &cache[this->layout_.KeyOffset(slot, head - kHeads)];
          this->ExpectNear(key, expected.data(), kDim, "key");
          ASSERT_TRUE(SameBits(key + this->layout_.ValueOffset(), from + kKvHeads * kDim, kDim));
          written += 2 * kDim;
        }
      }
    }
    // Nothing else was.
    int64_t numbers = 0;
    for (const T& x : cache) numbers += !std::isnan(ToFloat(x));
    EXPECT_EQ(numbers, written);
    for (int64_t i = kRows * kHeads * kDim; i < kPadded * kHeads * kDim; ++i) ASSERT_EQ(q[i], -1);
  }
}

}  // namespace
}  // namespace strata::engine::cuda
