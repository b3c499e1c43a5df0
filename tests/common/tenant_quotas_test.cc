#include "common/auth/tenant_quotas.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/retry_after.h"

namespace strata::auth {
namespace {

using ::testing::HasSubstr;

class TenantQuotasTest : public ::testing::Test {
 protected:
  // The error of a request that comes and goes, and uses what it takes.
  absl::Status Run(const std::string& tenant, const Quotas& quotas, uint64_t tokens = 0) {
    auto request = quotas_.Begin(tenant, quotas);
    if (!request.ok()) return request.status();
    absl::Status status = request->TakeTokens(tokens);
    if (status.ok()) request->SetUsedTokens(tokens);
    return status;
  }

  absl::Duration now_ = absl::Seconds(1000);
  TenantQuotas quotas_{[this] { return now_; }};
};

TEST_F(TenantQuotasTest, WithoutBoundsNothingIsRefused) {
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(Run("a", {}, 1 << 30).ok());
}

TEST_F(TenantQuotasTest, RequestsUnderWay) {
  const Quotas two = {.concurrent_requests = 2};
  auto first = quotas_.Begin("a", two);
  {
    const auto second = quotas_.Begin("a", two);
    ASSERT_TRUE(first.ok() && second.ok());
    const absl::Status third = quotas_.Begin("a", two).status();
    EXPECT_TRUE(absl::IsResourceExhausted(third));
    EXPECT_THAT(std::string(third.message()), HasSubstr("2 requests under way, at most 2"));
    EXPECT_TRUE(RetryAfter(third).has_value());
    EXPECT_TRUE(quotas_.Begin("b", two).ok()) << "another tenant";
  }
  EXPECT_TRUE(quotas_.Begin("a", two).ok());
}

TEST_F(TenantQuotasTest, RequestsAMinute) {
  const Quotas six = {.requests_per_minute = 6};
  for (int i = 0; i < 6; ++i) EXPECT_TRUE(Run("a", six).ok());
  const absl::Status seventh = Run("a", six);
  EXPECT_TRUE(absl::IsResourceExhausted(seventh));
  EXPECT_THAT(std::string(seventh.message()), HasSubstr("6 requests a minute"));
  EXPECT_EQ(RetryAfter(seventh), absl::Seconds(10));
  EXPECT_TRUE(Run("b", six).ok()) << "another tenant";
  now_ += absl::Seconds(9);
  EXPECT_EQ(RetryAfter(Run("a", six)), absl::Seconds(1));
  now_ += absl::Seconds(1);
  EXPECT_TRUE(Run("a", six).ok());
  EXPECT_FALSE(Run("a", six).ok());
  now_ += absl::Hours(10);
  for (int i = 0; i < 6; ++i) EXPECT_TRUE(Run("a", six).ok()) << "no more than a minute's worth";
  EXPECT_FALSE(Run("a", six).ok());
}

TEST_F(TenantQuotasTest, WhoeverWaitsAsLongAsToldIsLetIn) {
  for (const Quotas& odd : {Quotas{.requests_per_minute = 7}, Quotas{.tokens_per_minute = 1013}}) {
    int refused = 0;
    for (int i = 0; i < 500; ++i) {
      const uint64_t tokens = 37 + i % 91;
      const absl::Status status = Run("a", odd, tokens);
      if (status.ok()) continue;
      ++refused;
      ASSERT_TRUE(RetryAfter(status).has_value()) << status;
      now_ += *RetryAfter(status) - absl::Milliseconds(2);
      EXPECT_FALSE(Run("a", odd, tokens).ok()) << i;
      now_ += absl::Milliseconds(2);
      EXPECT_TRUE(Run("a", odd, tokens).ok()) << i;
    }
    EXPECT_GT(refused, 100);
    now_ += absl::Minutes(1);
  }
}

TEST_F(TenantQuotasTest, TokensAMinute) {
  const Quotas hundred = {.tokens_per_minute = 100};
  EXPECT_TRUE(Run("a", hundred, 60).ok());
  const absl::Status more = Run("a", hundred, 70);
  EXPECT_TRUE(absl::IsResourceExhausted(more));
  EXPECT_THAT(std::string(more.message()), HasSubstr("used 60 of its 100 tokens a minute"));
  EXPECT_EQ(RetryAfter(more), absl::Seconds(18));
  EXPECT_TRUE(Run("a", hundred, 40).ok());
  EXPECT_TRUE(Run("b", hundred, 100).ok()) << "another tenant";
  const absl::Status never = Run("c", hundred, 101);
  EXPECT_TRUE(absl::IsOutOfRange(never)) << "waiting does not help";
  EXPECT_FALSE(RetryAfter(never).has_value());
}

TEST_F(TenantQuotasTest, TokensThatAreNotUsedAreGivenBack) {
  const Quotas hundred = {.tokens_per_minute = 100};
  {
    auto request = quotas_.Begin("a", hundred);
    ASSERT_TRUE(request.ok() && request->TakeTokens(100).ok());
    EXPECT_FALSE(Run("a", hundred, 1).ok()) << "while it may still come to all of them";
    request->SetUsedTokens(30);
  }
  EXPECT_TRUE(Run("a", hundred, 70).ok());
  EXPECT_FALSE(Run("a", hundred, 1).ok());
}

TEST_F(TenantQuotasTest, WhoIsGoneIsForgotten) {
  const Quotas quotas = {.requests_per_minute = 10, .tokens_per_minute = 10};
  const auto under_way = quotas_.Begin("stays", quotas);
  ASSERT_TRUE(under_way.ok());
  size_t most = 0;
  for (int i = 0; i < 100'000; ++i) {
    EXPECT_TRUE(Run(absl::StrCat("tenant ", i), quotas, 5).ok());
    now_ += absl::Milliseconds(100);
    most = std::max(most, quotas_.size());
  }
  // 300 come in the half minute that is needed to forget one.
  EXPECT_LE(most, 2048u);
  now_ += absl::Minutes(2);
  EXPECT_TRUE(Run("stays", quotas).ok());
}

TEST_F(TenantQuotasTest, ManyThreads) {
  const Quotas quotas = {.concurrent_requests = 3, .tokens_per_minute = 1'000'000};
  std::atomic<int> under_way = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) {
        auto request = quotas_.Begin("a", quotas);
        if (!request.ok()) continue;
        EXPECT_LE(++under_way, 3);
        EXPECT_TRUE(request->TakeTokens(10).ok());
        --under_way;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(Run("a", quotas, 1'000'000).ok()) << "all was given back";
}

}  // namespace
}  // namespace strata::auth
