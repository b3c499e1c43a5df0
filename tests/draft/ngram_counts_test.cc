#include "services/draft/tiers/ngram_counts.h"

#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <thread>

#include "services/draft/tiers/read_gate.h"
#include "tests/draft/reference_counts.h"
#include "tests/draft/test_util.h"

namespace strata::draft {
namespace {

// Few values for much repetition; 12 and 40 give contexts more than kMaxContinuations.
constexpr int kVocabularies[] = {1, 2, 5, 12, 40};

TEST(NgramCountsTest, AgreesWithTheReferenceAsTextGrows) {
  std::mt19937 random(1);
  for (const int shards : {1, 8}) {
    for (const int vocabulary : kVocabularies) {
      NgramCounts counts(shards);
      ReferenceCounts reference;
      Tokens text = {0};
      while (text.size() < 1500) {
        const size_t before = text.size();
        const Tokens more = RandomTokens(random, 1 + random() % 60, vocabulary);
        text.insert(text.end(), more.begin(), more.end());
        counts.Teach(text, before);
        reference.Teach(text, before);
        for (int trial = 0; trial < 5; ++trial) {
          // Half of the contexts are of the text, so that long ones match.
          Tokens context = RandomTokens(random, 1 + random() % 12, vocabulary);
          if (trial % 2 == 0) {
            const size_t end = 1 + random() % text.size();
            context.assign(text.begin(), text.begin() + static_cast<ptrdiff_t>(end));
          }
          const int levels = 1 + static_cast<int>(random() % kMaxLevels);
          const int max_order = 1 + static_cast<int>(random() % kMaxContextOrder);
          ExpectSameEvidence(Ask(counts, context, levels, max_order),
                             reference.Match(context, max_order, levels));
        }
        ASSERT_FALSE(testing::Test::HasFailure()) << "vocabulary " << vocabulary;
      }
      EXPECT_EQ(counts.contexts(), reference.contexts());
    }
  }
}

TEST(NgramCountsTest, AgreesWithTheReferenceAsTextsComeAndGo) {
  std::mt19937 random(2);
  for (const int vocabulary : kVocabularies) {
    NgramCounts counts(4);
    ReferenceCounts reference;
    std::deque<std::pair<Tokens, size_t>> texts;
    for (int step = 0; step < 600; ++step) {
      if (texts.empty() || random() % 2 == 0) {
        const Tokens text = RandomTokens(random, 2 + random() % 50, vocabulary);
        const size_t begin = 1 + random() % (text.size() - 1);
        counts.Teach(text, begin);
        reference.Teach(text, begin);
        texts.emplace_back(text, begin);
      } else {
        counts.Forget(texts.front().first, texts.front().second);
        reference.Forget(texts.front().first, texts.front().second);
        texts.pop_front();
      }
      if (random() % 30 == 0) counts.Compact();
      if (random() % 3 == 0) counts.TakeRetired();
      ASSERT_EQ(counts.contexts(), reference.contexts());
      for (int trial = 0; trial < 4; ++trial) {
        const Tokens context = RandomTokens(random, 1 + random() % 9, vocabulary);
        ExpectSameEvidence(Ask(counts, context), reference.Match(context, kMaxContextOrder, 3));
      }
      ASSERT_FALSE(testing::Test::HasFailure()) << "vocabulary " << vocabulary;
    }
    for (const auto& [text, begin] : texts) counts.Forget(text, begin);
    EXPECT_EQ(counts.contexts(), 0u);
    for (TokenId token = 0; token < vocabulary; ++token) {
      EXPECT_EQ(Ask(counts, Tokens{token}).levels, 0);
    }
  }
}

TEST(NgramCountsTest, ABatchIsAnsweredLikeItsQueriesOneByOne) {
  std::mt19937 random(3);
  NgramCounts counts;
  const Tokens text = RandomTokens(random, 2000, 6);
  counts.Teach(text, 1);
  ExpectBatchesAsOneByOne(counts, random, 7);
}

TEST(NgramCountsTest, NothingIsKnownOfAnEmptyIndexOrAnEmptyContext) {
  NgramCounts counts;
  EXPECT_EQ(Ask(counts, Tokens{1}).levels, 0);
  counts.Teach(Tokens{1, 2}, 1);
  EXPECT_EQ(Ask(counts, Tokens{}).levels, 0);
  EXPECT_EQ(Next(counts, Tokens{1}), Tokens{2});
  EXPECT_EQ(Ask(counts, Tokens{2}).levels, 0);
}

// The documented bound, growth included, for text in which every n-gram is new, which is the
// worst, for text of one n-gram, and for contexts whose lists are full.
TEST(NgramCountsTest, MemoryATokenIsBoundedAtEveryMoment) {
  constexpr size_t kTokens = 60000;
  std::mt19937 random(4);
  for (const int kind : {0, 1, 2}) {
    Tokens text(kTokens);
    for (size_t i = 0; i < kTokens; ++i) {
      text[i] = kind == 0   ? static_cast<TokenId>(i)
                : kind == 1 ? 7
                            : static_cast<TokenId>(random() % 300);
    }
    NgramCounts counts(16);
    for (size_t begin = 1; begin < kTokens; begin += 50) {
      counts.Teach(std::span(text).first(std::min(kTokens, begin + 50)), begin);
      counts.TakeRetired();
      if (begin > 5000) {
        ASSERT_LE(counts.bytes(), 235 * begin) << "kind " << kind;
      }
    }
  }
}

TEST(NgramCountsTest, CompactGivesBackWhatWasForgotten) {
  std::mt19937 random(5);
  NgramCounts counts(8);
  const size_t empty = counts.bytes();
  std::vector<Tokens> texts;
  for (int i = 0; i < 400; ++i) {
    texts.push_back(RandomTokens(random, 100, 1000));
    counts.Teach(texts.back(), 1);
  }
  counts.TakeRetired();
  const size_t full = counts.bytes();
  for (size_t i = 0; i < 300; ++i) counts.Forget(texts[i], 1);
  counts.Compact();
  counts.TakeRetired();
  EXPECT_LT(counts.bytes(), full / 2);
  for (size_t i = 300; i < texts.size(); ++i) counts.Forget(texts[i], 1);
  counts.Compact();
  counts.TakeRetired();
  EXPECT_EQ(counts.contexts(), 0u);
  EXPECT_LE(counts.bytes(), empty + 8 * 1024);
}

// Readers beside a writer that teaches, forgets and replaces tables. What they may rely on while it
// runs: tokens that were taught, no token twice, counts within totals.
TEST(NgramCountsTest, ReadersBesideAWriterSeeOnlyWhatWasTaught) {
  constexpr int kVocabulary = 12;
  constexpr TokenId kFirst = 1000;
  NgramCounts counts(2);
  ReadGate gate;
  std::atomic<bool> stop = false;
  std::vector<std::thread> readers;
  for (int r = 0; r < 3; ++r) {
    readers.emplace_back([&, r] {
      std::mt19937 random(100 + r);
      while (!stop.load(std::memory_order_relaxed)) {
        Tokens context = RandomTokens(random, 1 + random() % 8, kVocabulary);
        for (TokenId& token : context) token += kFirst;
        const ReadGate::Pass pass(gate);
        const Evidence evidence = Ask(counts, context);
        ASSERT_LE(evidence.levels, kMaxLevels);
        for (int level = 0; level < evidence.levels; ++level) {
          const ContextCounts& told = evidence.level[level];
          ASSERT_GE(told.size, 1);
          ASSERT_LE(told.size, kMaxContinuations);
          ASSERT_GE(told.order, 1);
          ASSERT_LE(told.order, static_cast<int>(context.size()));
          uint64_t sum = 0;
          for (int i = 0; i < told.size; ++i) {
            const Continuation& next = told.continuations[i];
            sum += next.count;
            ASSERT_GE(next.token, kFirst);
            ASSERT_LT(next.token, kFirst + kVocabulary);
            ASSERT_GE(next.count, 1u);
            for (int j = 0; j < i; ++j) ASSERT_NE(next.token, told.continuations[j].token);
          }
          ASSERT_GE(told.total, sum);
        }
      }
    });
  }
  std::mt19937 random(6);
  ReferenceCounts reference;
  std::deque<Tokens> texts;
  std::vector<std::unique_ptr<NgramTable>> leaving;
  for (int step = 0; step < 1500; ++step) {
    if (texts.size() < 40 || (texts.size() < 200 && random() % 2 == 0)) {
      texts.push_back(RandomTokens(random, 20, kVocabulary));
      for (TokenId& token : texts.back()) token += kFirst;
      counts.Teach(texts.back(), 1);
      reference.Teach(texts.back(), 1);
    } else {
      counts.Forget(texts.front(), 1);
      reference.Forget(texts.front(), 1);
      texts.pop_front();
    }
    if (step % 100 == 0) counts.Compact();
    if (gate.Drained()) {
      leaving = counts.TakeRetired();
      gate.Flip();
    }
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(counts.contexts(), reference.contexts());
  for (int trial = 0; trial < 300; ++trial) {
    Tokens context = RandomTokens(random, 1 + random() % 8, kVocabulary);
    for (TokenId& token : context) token += kFirst;
    ExpectSameEvidence(Ask(counts, context), reference.Match(context, kMaxContextOrder, 3));
  }
}

}  // namespace
}  // namespace strata::draft
