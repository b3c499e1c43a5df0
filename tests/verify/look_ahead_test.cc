#include "services/verify/drafting/look_ahead.h"

#include <gtest/gtest.h>

#include <vector>

namespace strata::verify {
namespace {

using Tokens = std::vector<TokenId>;

// 5 then 6 then 7, each as likely as `confidence`.
DraftTree Chain(float confidence) {
  DraftTree tree;
  tree.Add(5, -1, confidence, TierKind::kContext);
  tree.Add(6, 0, confidence, TierKind::kContext);
  tree.Add(7, 1, confidence, TierKind::kContext);
  return tree;
}

TEST(LookAhead, DraftsWhatFollowsTheTokensThatCame) {
  LookAhead ahead;
  ahead.Keep(1, 2, Chain(0.9f));
  EXPECT_EQ(ahead.Take(1, Tokens{1, 2, 5}, 8).tokens, (Tokens{6, 7}));
  ahead.Keep(1, 2, Chain(0.9f));
  EXPECT_EQ(ahead.Take(1, Tokens{1, 2, 5, 6}, 8).tokens, (Tokens{7}));
  ahead.Keep(1, 2, Chain(0.9f));
  EXPECT_EQ(ahead.Take(1, Tokens{1, 2, 5}, 1).tokens, (Tokens{6}));
}

TEST(LookAhead, KnowsNothingOfOtherTokensNorSequences) {
  LookAhead ahead;
  EXPECT_TRUE(ahead.Take(1, Tokens{1}, 8).empty());
  for (const Tokens& tokens : {Tokens{1, 2, 6}, Tokens{1, 2, 5, 6, 7}, Tokens{1, 2}, Tokens{1}}) {
    ahead.Keep(1, 2, Chain(0.9f));
    EXPECT_TRUE(ahead.Take(1, tokens, 8).empty());
  }
  ahead.Keep(1, 2, Chain(0.9f));
  EXPECT_TRUE(ahead.Take(2, Tokens{1, 2, 5}, 8).empty());
}

// What hangs below tokens that a later answer does not know of is not to be mixed up with it.
TEST(LookAhead, TellsOfATreeOnceAndOfTheLastAlone) {
  LookAhead ahead;
  ahead.Keep(1, 2, Chain(0.9f));
  EXPECT_FALSE(ahead.Take(1, Tokens{1, 2, 5}, 8).empty());
  EXPECT_TRUE(ahead.Take(1, Tokens{1, 2, 5}, 8).empty());
  ahead.Keep(1, 2, Chain(0.9f));
  ahead.Keep(1, 3, Chain(0.9f));
  EXPECT_TRUE(ahead.Take(1, Tokens{1, 2, 5}, 8).empty());
  ahead.Keep(1, 2, Chain(0.9f));
  ahead.Forget(1);
  EXPECT_TRUE(ahead.Take(1, Tokens{1, 2, 5}, 8).empty());
}

// 6 and 7 are worth 0.3 and 0.09 tokens. A chain that is waited for, all three.
TEST(LookAhead, WaitsWhereThatIsWorthMore) {
  LookAhead ahead;
  const auto drafts = [&ahead] {
    ahead.Keep(1, 2, Chain(0.3f));
    return !ahead.Take(1, Tokens{1, 2, 5}, 8).empty();
  };
  for (int i = 0; i < 500; ++i) ahead.LearnAwaited(Chain(0.9f));
  EXPECT_FALSE(drafts());
  for (int i = 0; i < 500; ++i) ahead.LearnAwaited(Chain(0.3f));
  EXPECT_TRUE(drafts());
  for (int i = 0; i < 500; ++i) ahead.LearnAwaited(Chain(0.9f));
  EXPECT_FALSE(drafts());
  // Nothing is no draft, whatever others are worth.
  for (int i = 0; i < 500; ++i) ahead.LearnAwaited(DraftTree());
  EXPECT_TRUE(drafts());
  ahead.Keep(1, 2, Chain(0.3f));
  EXPECT_TRUE(ahead.Take(1, Tokens{1, 2, 5, 6, 7}, 8).empty());
}

}  // namespace
}  // namespace strata::verify
