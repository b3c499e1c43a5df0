#include "services/verify/engine/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <random>

#include "services/verify/engine/amx.h"
#include "services/verify/engine/bf16.h"
#include "services/verify/engine/parallel.h"

namespace strata::engine {
namespace {

// Keys and values of `length` tokens by position, [length][kv_heads][head_dim].
struct Tokens {
  std::vector<float> keys;
  std::vector<float> values;
};

template <typename Element, int kHeads, int kHeadDim, AttentionWay kWay = AttentionWay::kVectors>
struct Kind {
  using T = Element;
  static constexpr int64_t heads = kHeads;
  static constexpr int64_t head_dim = kHeadDim;
  static constexpr AttentionWay way = kWay;
};

template <typename Kind>
class AttentionTest : public ::testing::Test {
 protected:
  using T = typename Kind::T;
  static constexpr AttentionShape kShape{
      .heads = Kind::heads, .kv_heads = 2, .head_dim = Kind::head_dim};
  static constexpr int64_t kPages = 40;

  void SetUp() override {
    if (Kind::way == AttentionWay::kTiles && !AmxIsUsable()) GTEST_SKIP() << "no AMX here";
    auto cache = KvCache::Create(kPages, 1, kShape.kv_heads, kShape.head_dim, sizeof(T));
    ASSERT_TRUE(cache.ok());
    cache_ = std::move(*cache);
    // Pages in no order at all.
    pages_.resize(kPages);
    std::iota(pages_.begin(), pages_.end(), 0);
    std::shuffle(pages_.begin(), pages_.end(), random_);
  }

  Tokens RandomTokens(int64_t length) {
    Tokens tokens;
    const int64_t count = length * kShape.kv_heads * kShape.head_dim;
    for (auto* list : {&tokens.keys, &tokens.values}) {
      for (int64_t i = 0; i < count; ++i) list->push_back(Round(normal_(random_)));
    }
    return tokens;
  }

  std::vector<float> RandomQuery() {
    std::vector<float> q(kShape.heads * kShape.head_dim);
    for (float& x : q) x = normal_(random_) * 0.5f;
    return q;
  }

  static float Round(float x) {
    T stored;
    FromFloat(x, stored);
    return ToFloat(stored);
  }

  // Puts token `position` of `tokens` into a slot.
  void Put(const Tokens& tokens, int64_t position, int32_t slot) {
    for (int64_t head = 0; head < kShape.kv_heads; ++head) {
      T* keys = reinterpret_cast<T*>(cache_->Keys(0, slot / kPageTokens, head));
      T* values = reinterpret_cast<T*>(cache_->Values(0, slot / kPageTokens, head));
      for (int64_t d = 0; d < kShape.head_dim; ++d) {
        const int64_t at = (position * kShape.kv_heads + head) * kShape.head_dim + d;
        FromFloat(tokens.keys[at], keys[KvLayout<T>::KeyIndex(slot % kPageTokens, d)]);
        FromFloat(tokens.values[at],
                  values[KvLayout<T>::ValueIndex(slot % kPageTokens, d, kShape.head_dim)]);
      }
    }
  }

  // Whatever nothing was put into since is NaN.
  void SpoilAllSlots() {
    const auto width = static_cast<size_t>(kShape.kv_heads * kShape.head_dim);
    const std::vector<float> nan(width, std::nanf(""));
    for (int32_t slot = 0; slot < kPages * kPageTokens; ++slot) Put({nan, nan}, 0, slot);
  }

  int32_t Slot(int64_t i) { return pages_[i / kPageTokens] * kPageTokens + i % kPageTokens; }

  template <typename Out = T>
  std::vector<Out> Run(const std::vector<float>& q, std::span<const AttentionRow> rows) {
    std::vector<Out> out(q.size());
    AttentionScratch scratch(Kind::way, kShape, rows, ThreadCount());
    PagedAttention<T>(kShape, 0, rows, q.data(), *cache_, scratch, out.data());
    return out;
  }
  std::vector<T> Run(const std::vector<float>& q, const AttentionRow& row) {
    return Run(q, std::span(&row, 1));
  }

  // Softmax attention in double precision, of what queries are rounded to.
  std::vector<double> Expected(std::vector<float> q, const Tokens& tokens, int64_t length) {
    if (Kind::way == AttentionWay::kTiles) std::transform(q.begin(), q.end(), q.begin(), Round);
    std::vector<double> out(q.size());
    for (int64_t h = 0; h < kShape.heads; ++h) {
      const int64_t kv = h / (kShape.heads / kShape.kv_heads);
      std::vector<double> w(length);
      double top = -1e300, sum = 0;
      for (int64_t p = 0; p < length; ++p) {
        for (int64_t d = 0; d < kShape.head_dim; ++d) {
          w[p] += double{q[h * kShape.head_dim + d]} *
                  tokens.keys[(p * kShape.kv_heads + kv) * kShape.head_dim + d];
        }
        top = std::max(top, w[p]);
      }
      for (double& x : w) sum += x = std::exp(x - top);
      for (int64_t p = 0; p < length; ++p) {
        for (int64_t d = 0; d < kShape.head_dim; ++d) {
          out[h * kShape.head_dim + d] +=
              w[p] / sum * tokens.values[(p * kShape.kv_heads + kv) * kShape.head_dim + d];
        }
      }
    }
    return out;
  }

  std::mt19937 random_{42};
  std::normal_distribution<float> normal_;
  std::unique_ptr<KvCache> cache_;
  std::vector<int32_t> pages_;
};

// Query heads that share a KV head are taken four, three, two or one at a time: seven, two and one
// of them. Tiles take up to 16: 7, 2, 1, 4 and 18 of them; of dimensions, 64 at once or 16.
template <int kHeads, int kHeadDim>
using Tiles = Kind<Bf16, kHeads, kHeadDim, AttentionWay::kTiles>;
using Types = ::testing::Types<Kind<float, 14, 48>, Kind<Bf16, 14, 64>, Kind<Bf16, 4, 48>,
                               Kind<Bf16, 2, 16>, Tiles<14, 64>, Tiles<4, 80>, Tiles<2, 128>,
                               Tiles<8, 16>, Tiles<36, 48>, Tiles<2, 256>>;
TYPED_TEST_SUITE(AttentionTest, Types);

TYPED_TEST(AttentionTest, AgreesWithDoublePrecision) {
  for (int64_t length : {1, 2, 15, 16, 17, 31, 33, 100, 320}) {
    const Tokens tokens = this->RandomTokens(length);
    for (int64_t p = 0; p < length; ++p) this->Put(tokens, p, this->Slot(p));
    const auto q = this->RandomQuery();
    AttentionRow row{
        .row = 0, .position = length - 1, .direct = length, .pages = this->pages_, .scattered = {}};
    const auto out = this->Run(q, row);
    const auto expected = this->Expected(q, tokens, length);
    const double tolerance = sizeof(typename TypeParam::T) == 4 ? 2e-6 : 1.2e-2;
    for (size_t i = 0; i < out.size(); ++i) {
      ASSERT_NEAR(ToFloat(out[i]), expected[i], tolerance * (1 + std::abs(expected[i])))
          << "length " << length << " element " << i;
    }
  }
}

// The same keys and values, wherever they are stored, give the same bits.
TYPED_TEST(AttentionTest, PlaceDoesNotMatter) {
  for (int64_t length : {1, 3, 16, 17, 40, 63, 64, 200}) {
    const Tokens tokens = this->RandomTokens(length);
    this->SpoilAllSlots();
    for (int64_t p = 0; p < length; ++p) this->Put(tokens, p, this->Slot(p));
    const auto q = this->RandomQuery();
    AttentionRow row{
        .row = 0, .position = length - 1, .direct = length, .pages = this->pages_, .scattered = {}};
    const auto whole = this->Run(q, row);
    for (int64_t direct = std::max<int64_t>(0, length - 37); direct < length; direct += 3) {
      // The rest goes to slots far behind, in descending order.
      std::vector<int32_t> scattered;
      for (int64_t p = direct; p < length; ++p) {
        scattered.push_back(this->Slot(this->kPages * kPageTokens - 1 - 3 * (p - direct)));
        this->Put(tokens, p, scattered.back());
      }
      row.direct = direct;
      row.scattered = scattered;
      const auto out = this->Run(q, row);
      ASSERT_EQ(std::memcmp(out.data(), whole.data(), out.size() * sizeof(typename TypeParam::T)),
                0)
          << "length " << length << " direct " << direct;
    }
  }
}

// Rows beside each other, of two sequences, get the bits of each alone.
TYPED_TEST(AttentionTest, RowsDoNotDependOnEachOther) {
  using T = typename TypeParam::T;
  const std::vector<int32_t> all = this->pages_;
  const std::vector<int32_t> first(all.begin(), all.begin() + 20);
  const std::vector<int32_t> second(all.begin() + 20, all.end());
  for (const auto* pages : {&first, &second}) {
    this->pages_ = *pages;
    const int64_t slots = static_cast<int64_t>(pages->size()) * kPageTokens;
    const Tokens tokens = this->RandomTokens(slots);
    for (int64_t p = 0; p < slots; ++p) this->Put(tokens, p, this->Slot(p));
  }
  // Rows at several positions, some with a scattered tail; more than are taken together. Behind 20
  // committed tokens some have no block whole.
  for (const int64_t committed : {20, 90}) {
    std::vector<AttentionRow> rows;
    std::vector<std::vector<int32_t>> tails;
    for (const auto* pages : {&first, &second}) {
      this->pages_ = *pages;
      for (int64_t r = 0; r < 19; ++r) {
        const int64_t tail = r % 5;
        const int64_t direct = r % 3 == 0 ? committed - r : committed + r;
        std::vector<int32_t> scattered;
        for (int64_t i = 0; i < tail; ++i) scattered.push_back(this->Slot(200 + 7 * i + r));
        tails.push_back(std::move(scattered));
        rows.push_back({.row = static_cast<int64_t>(rows.size()),
                        .position = direct + tail - 1,
                        .direct = direct,
                        .pages = *pages,
                        .scattered = {}});
      }
      // And some that end where a block does.
      for (int64_t r = 0; r < 18; ++r) {
        tails.emplace_back();
        rows.push_back({.row = static_cast<int64_t>(rows.size()),
                        .position = 47,
                        .direct = 48,
                        .pages = *pages,
                        .scattered = {}});
      }
    }
    for (size_t r = 0; r < rows.size(); ++r) rows[r].scattered = tails[r];
    const size_t width = this->RandomQuery().size();
    std::vector<float> q;
    for (size_t r = 0; r < rows.size(); ++r) {
      const auto one = this->RandomQuery();
      q.insert(q.end(), one.begin(), one.end());
    }
    const std::vector<T> together = this->Run(q, std::span<const AttentionRow>(rows));
    for (size_t r = 0; r < rows.size(); ++r) {
      const std::vector<T> alone = this->Run(q, rows[r]);
      EXPECT_EQ(
          std::memcmp(together.data() + r * width, alone.data() + r * width, width * sizeof(T)), 0)
          << "row " << r << " behind " << committed;
    }
    if constexpr (sizeof(T) == sizeof(Bf16)) {
      // As they are for products that take rows in fp32.
      const std::vector<float> wide =
          this->template Run<float>(q, std::span<const AttentionRow>(rows));
      for (size_t i = 0; i < wide.size(); ++i) ASSERT_EQ(wide[i], ToFloat(together[i])) << i;
    }
  }
}

// A row attends to all before it: by number alone, whoever has the later ones has more to do.
TEST(AttentionScratchTest, ThreadsShareByWhatRowsCost) {
  const AttentionShape shape{.heads = 3, .kv_heads = 3, .head_dim = 64};
  const std::vector<int32_t> pages(20);
  std::vector<AttentionRow> rows;
  for (int64_t position = 0; position < 300; ++position) {
    rows.push_back({.row = position,
                    .position = position,
                    .direct = position + 1,
                    .pages = pages,
                    .scattered = {}});
  }
  const auto items = static_cast<int64_t>(rows.size()) * shape.kv_heads;
  for (const int parts : {1, 2, 3, 7}) {
    const AttentionScratch scratch(AttentionWay::kVectors, shape, rows, parts);
    ASSERT_EQ(scratch.parts(), parts);
    EXPECT_EQ(scratch.part(0), 0);
    EXPECT_EQ(scratch.part(parts), items);
    int64_t most = 0, least = INT64_MAX;
    for (int64_t i = 0; i < parts; ++i) {
      int64_t positions = 0;
      for (int64_t item = scratch.part(i); item < scratch.part(i + 1); ++item) {
        positions += item % 300 + 1;
      }
      most = std::max(most, positions);
      least = std::min(least, positions);
    }
    // What is not a matter of positions alone, and an item at either end, comes on top.
    EXPECT_LT(most - least, 2 * 300 + most / 5) << parts;
  }
}

// The keys and values of each sequence have to come from memory.
TEST(AttentionScratchTest, RowsOfManySequencesCostMore) {
  const AttentionShape shape{.heads = 3, .kv_heads = 1, .head_dim = 64};
  const std::vector<std::vector<int32_t>> pages(101, std::vector<int32_t>(80));
  std::vector<AttentionRow> rows;
  for (int64_t r = 0; r < 200; ++r) {
    rows.push_back({.row = r,
                    .position = 1000,
                    .direct = 1001,
                    .pages = pages[static_cast<size_t>(r < 100 ? 0 : r - 99)],
                    .scattered = {}});
  }
  for (const AttentionWay way : {AttentionWay::kVectors, AttentionWay::kTiles}) {
    const AttentionScratch scratch(way, shape, rows, 2);
    EXPECT_GT(scratch.part(1), 120);
  }
}

// Sixteen heads in a tile cost little more than one.
TEST(AttentionScratchTest, RowsThatAreTakenTogetherCostLess) {
  const AttentionShape shape{.heads = 1, .kv_heads = 1, .head_dim = 64};
  const std::vector<int32_t> tree_pages(80), other_pages(80);
  std::vector<AttentionRow> rows;
  for (int64_t r = 0; r < 20; ++r) {
    rows.push_back({.row = r,
                    .position = 1000,
                    .direct = 1001,
                    .pages = r < 16 ? tree_pages : other_pages,
                    .scattered = {}});
  }
  // Twenty rows at the same position.
  const AttentionScratch vectors(AttentionWay::kVectors, shape, rows, 2);
  const AttentionScratch tiles(AttentionWay::kTiles, shape, rows, 2);
  EXPECT_EQ(vectors.joint_rows(), 8);
  EXPECT_EQ(tiles.joint_rows(), 16);
  EXPECT_GE(vectors.part(1), 10);
  EXPECT_GT(tiles.part(1), vectors.part(1));
}

// Their scores have to fit somewhere.
TEST(AttentionScratchTest, FewerRowsAreTakenTogetherFarBehind) {
  const AttentionShape shape{.heads = 4, .kv_heads = 2, .head_dim = 64};
  const std::vector<int32_t> pages(1);
  for (const AttentionWay way : {AttentionWay::kVectors, AttentionWay::kTiles}) {
    int64_t before = INT64_MAX;
    for (const int64_t position : {100, 50'000, 1'000'000}) {
      std::vector<AttentionRow> rows(8);
      for (AttentionRow& row : rows) {
        row = {.position = position, .direct = position + 1, .pages = pages, .scattered = {}};
      }
      const AttentionScratch scratch(way, shape, rows, 1);
      EXPECT_LT(scratch.joint_rows(), before);
      EXPECT_GT(scratch.stride(), position);
      before = scratch.joint_rows();
    }
    EXPECT_EQ(before, 1);
  }
}

TEST(ForEachRunTest, EachItemIsInOneRun) {
  const std::vector<int32_t> pages[] = {{0}, {1}, {2}};
  std::vector<AttentionRow> rows;
  for (const int sequence : {0, 1, 1, 1, 1, 1, 2, 2}) {
    rows.push_back(
        {.row = static_cast<int64_t>(rows.size()), .pages = pages[sequence], .scattered = {}});
  }
  constexpr int64_t kKvHeads = 3;
  const auto items = static_cast<int64_t>(rows.size()) * kKvHeads;
  for (int64_t cut = 0; cut <= items; ++cut) {
    std::vector<int> seen(static_cast<size_t>(items));
    const auto run = [&](int64_t first, int64_t count, int64_t kv_head) {
      EXPECT_GT(count, 0);
      EXPECT_EQ(rows[first].pages.data(), rows[first + count - 1].pages.data());
      for (int64_t r = first; r < first + count; ++r) ++seen[r * kKvHeads + kv_head];
    };
    ForEachRun(rows, kKvHeads, 0, cut, run);
    EXPECT_EQ(std::accumulate(seen.begin(), seen.end(), int64_t{0}), cut);
    ForEachRun(rows, kKvHeads, cut, items, run);
    EXPECT_EQ(seen, std::vector<int>(static_cast<size_t>(items), 1)) << "cut at " << cut;
  }
}

// There may be more threads than items.
TEST(AttentionScratchTest, EveryItemHasOneThread) {
  const AttentionShape shape{.heads = 2, .kv_heads = 1, .head_dim = 64};
  const std::vector<int32_t> pages(4);
  for (const AttentionWay way : {AttentionWay::kVectors, AttentionWay::kTiles})
    for (const size_t count : {0, 1, 2, 4, 6}) {
      std::vector<AttentionRow> rows(count);
      for (AttentionRow& row : rows)
        row = {.position = 9, .direct = 10, .pages = pages, .scattered = {}};
      const AttentionScratch scratch(way, shape, rows, 5);
      EXPECT_EQ(scratch.part(0), 0);
      EXPECT_EQ(scratch.part(5), static_cast<int64_t>(count));
      for (int64_t i = 0; i < 5; ++i) {
        const int64_t size = scratch.part(i + 1) - scratch.part(i);
        EXPECT_GE(size, 0);
        EXPECT_LE(size, count > 5 ? 2 : 1);
      }
    }
}

// Slots past the row's position may hold anything, even NaN, beside its own too.
TYPED_TEST(AttentionTest, LaterSlotsDoNotMatter) {
  for (const int64_t length : {21, 22, 31}) {
    for (const int64_t tail : {0, 1, 4}) {
      this->SpoilAllSlots();
      const Tokens tokens = this->RandomTokens(length);
      std::vector<int32_t> scattered;
      for (int64_t p = 0; p < length; ++p) {
        const int64_t direct = length - tail;
        const int32_t slot = this->Slot(p < direct ? p : 100 + 3 * (p - direct));
        this->Put(tokens, p, slot);
        if (p >= direct) scattered.push_back(slot);
      }
      const auto q = this->RandomQuery();
      const auto out = this->Run(q, {.row = 0,
                                     .position = length - 1,
                                     .direct = length - tail,
                                     .pages = this->pages_,
                                     .scattered = scattered});
      const auto expected = this->Expected(q, tokens, length);
      for (size_t i = 0; i < out.size(); ++i) {
        ASSERT_NEAR(ToFloat(out[i]), expected[i], 0.05) << length << " of them scattered " << tail;
      }
    }
  }
}

// Nor may what rows beside it attend to.
TYPED_TEST(AttentionTest, LaterRowsDoNotMatter) {
  constexpr int64_t kRows = 9;
  constexpr int64_t kFirst = 26;
  const int64_t first_bad = 31;
  Tokens tokens = this->RandomTokens(kFirst + kRows);
  for (float* list : {tokens.keys.data(), tokens.values.data()}) {
    const int64_t width = this->kShape.kv_heads * this->kShape.head_dim;
    std::fill(list + first_bad * width, list + (kFirst + kRows) * width, std::nanf(""));
  }
  for (int64_t p = 0; p < kFirst + kRows; ++p) this->Put(tokens, p, this->Slot(p));
  std::vector<AttentionRow> rows;
  std::vector<float> q;
  for (int64_t r = 0; r < kRows; ++r) {
    rows.push_back({.row = r,
                    .position = kFirst + r,
                    .direct = kFirst + r + 1,
                    .pages = this->pages_,
                    .scattered = {}});
    const auto one = this->RandomQuery();
    q.insert(q.end(), one.begin(), one.end());
  }
  using T = typename TypeParam::T;
  const size_t width = q.size() / kRows;
  const std::vector<T> together = this->Run(q, std::span<const AttentionRow>(rows));
  for (int64_t r = 0; r < kRows; ++r) {
    const auto begin = q.begin() + r * static_cast<int64_t>(width);
    const std::vector<float> own(begin, begin + static_cast<int64_t>(width));
    AttentionRow row = rows[r];
    row.row = 0;
    const auto alone = this->Run(own, row);
    const T* const beside = together.data() + r * width;
    if (rows[r].position < first_bad) {
      const auto expected = this->Expected(own, tokens, rows[r].position + 1);
      for (size_t i = 0; i < width; ++i) ASSERT_NEAR(ToFloat(beside[i]), expected[i], 0.05);
      EXPECT_EQ(std::memcmp(beside, alone.data(), width * sizeof(T)), 0) << "row " << r;
    } else {
      EXPECT_TRUE(std::isnan(ToFloat(beside[0]))) << "row " << r;
    }
  }
}

TEST(KvPagesTest, PagesAreTakenAllOrNone) {
  KvPages cache(4);
  std::vector<int32_t> pages;
  EXPECT_FALSE(cache.Allocate(5, pages));
  EXPECT_TRUE(pages.empty());
  EXPECT_TRUE(cache.Allocate(3, pages));
  EXPECT_EQ(cache.free_pages(), 1);
  std::vector<int32_t> more;
  EXPECT_FALSE(cache.Allocate(2, more));
  cache.Release(pages);
  EXPECT_TRUE(cache.Allocate(4, more));
  std::sort(more.begin(), more.end());
  EXPECT_EQ(more, (std::vector<int32_t>{0, 1, 2, 3}));
}

}  // namespace
}  // namespace strata::engine
