#include "services/draft/tiers/text_index.h"

#include <gtest/gtest.h>

#include <numeric>

#include "tests/draft/reference_counts.h"
#include "tests/draft/test_util.h"

namespace strata::draft {
namespace {

// A text with little that repeats, much, and nothing else; 12 and 40 give contexts more than
// kMaxContinuations, 3000 many that occur once.
constexpr int kVocabularies[] = {1, 2, 5, 12, 40, 3000};

// Half of the contexts are of the text, so that long ones match; half of those go on with another
// token.
Tokens RandomContext(std::mt19937& random, const Tokens& text, int vocabulary) {
  Tokens context = RandomTokens(random, 1 + random() % 12, vocabulary);
  if (random() % 2 == 0) {
    const Tokens more = random() % 2 == 0 ? Tokens() : Tokens{context[0]};
    const size_t end = 1 + random() % text.size();
    context.assign(text.begin(), text.begin() + static_cast<ptrdiff_t>(end));
    context.insert(context.end(), more.begin(), more.end());
  }
  return context;
}

TEST(TextIndexTest, AgreesWithTheReferenceAsTextGrows) {
  std::mt19937 random(1);
  for (const size_t lead : {0, 1, 3, 8, 20}) {
    for (const int vocabulary : kVocabularies) {
      Tokens text = RandomTokens(random, lead, vocabulary);
      TextIndex index(text);
      ReferenceCounts reference;
      while (text.size() < 1500) {
        const size_t before = text.size();
        Tokens more = RandomTokens(random, 1 + random() % 60, vocabulary);
        // Stretches that repeat make contexts of all orders recur.
        if (before > 100 && random() % 3 == 0) {
          const auto from = text.begin() + static_cast<ptrdiff_t>(random() % (before - 50));
          more.insert(more.begin() + 1, from, from + 30);
        }
        index.Append(more);
        text.insert(text.end(), more.begin(), more.end());
        reference.Teach(text, std::max<size_t>(before, 1));
        ASSERT_EQ(Tokens(index.tokens().begin(), index.tokens().end()), text);
        for (int trial = 0; trial < 8; ++trial) {
          const Tokens context = RandomContext(random, text, vocabulary);
          const int levels = 1 + static_cast<int>(random() % kMaxLevels);
          const int max_order = 1 + static_cast<int>(random() % kMaxContextOrder);
          ExpectSameEvidence(Ask(index, context, levels, max_order),
                             reference.Match(context, max_order, levels));
        }
        ASSERT_FALSE(HasFailure()) << "vocabulary " << vocabulary << ", lead " << lead;
      }
    }
  }
}

TEST(TextIndexTest, PiecesAreAsTheWhole) {
  std::mt19937 random(2);
  const Tokens text = RandomTokens(random, 5000, 30);
  TextIndex whole, pieces;
  whole.Append(text);
  for (const TokenId token : text) pieces.Append({&token, 1});
  for (int trial = 0; trial < 2000; ++trial) {
    const Tokens context = RandomContext(random, text, 30);
    ExpectSameEvidence(Ask(pieces, context), Ask(whole, context));
  }
}

TEST(TextIndexTest, ABatchIsAnsweredLikeItsQueriesOneByOne) {
  std::mt19937 random(3);
  TextIndex index;
  index.Append(RandomTokens(random, 2000, 6));
  ExpectBatchesAsOneByOne(index, random, 7);
}

TEST(TextIndexTest, NothingIsKnownOfAnEmptyIndexOrAnEmptyContext) {
  TextIndex index;
  EXPECT_EQ(Ask(index, Tokens{1}).levels, 0);
  index.Append({});
  index.Append(Tokens{1});
  EXPECT_EQ(Ask(index, Tokens{1}).levels, 0);
  index.Append(Tokens{2});
  EXPECT_EQ(Ask(index, Tokens{}).levels, 0);
  EXPECT_EQ(Next(index, Tokens{1}), Tokens{2});
  EXPECT_EQ(Ask(index, Tokens{2}).levels, 0);
  const TextIndex lead(Tokens{5, 6});
  EXPECT_EQ(Ask(lead, Tokens{5}).levels, 0);
  EXPECT_EQ(Ask(lead, Tokens{5, 6}).levels, 0);
}

// The documented bound: where every token is new, where one alone occurs, where lists are full, and
// where contexts of every order recur with another continuation.
TEST(TextIndexTest, MemoryATokenIsBoundedAtEveryMoment) {
  constexpr size_t kTokens = 60000;
  std::mt19937 random(4);
  Tokens counting(kTokens), broken_copy = RandomTokens(random, kTokens / 2, 40000);
  std::iota(counting.begin(), counting.end(), 0);
  for (size_t i = 0; i < kTokens / 2; ++i) {
    broken_copy.push_back(i % 10 == 9 ? 50000 : broken_copy[i]);
  }
  for (const Tokens& text :
       {counting, Tokens(kTokens, 7), RandomTokens(random, kTokens, 300), broken_copy}) {
    TextIndex index;
    for (size_t begin = 0; begin < kTokens; begin += 50) {
      index.Append(std::span(text).subspan(begin, 50));
      if (begin > 5000) {
        ASSERT_LE(index.bytes(), 230 * (begin + 50)) << "text of " << text[1] << "...";
      }
    }
  }
}

}  // namespace
}  // namespace strata::draft
