#include "common/auth/token_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace strata::auth {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// printf %s sesame | sha256sum, and of "other".
constexpr char kSesame[] = "d0c04f4b1951e4aeaaec8223ed2039e542f3aae805a6fa7f6d794e5afff5d272";
constexpr char kOther[] = "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa";

std::string Entry(const std::string& digest, const std::string& rest) {
  return "{\"sha256\": \"" + digest + "\", " + rest + "}";
}
std::string File(const std::string& entries) { return "{\"tokens\": [" + entries + "]}"; }

TEST(TokenTableTest, FindsWhoATokenSpeaksFor) {
  const auto table =
      TokenTable::Parse(File(Entry(kSesame, R"("tenant": "acme", "expires": "2027-01-31T00:00:00Z",
                             "quotas": {"tokens_per_minute": 5})") +
                             "," + Entry(kOther, R"("tenant": "beta")")),
                        {.requests_per_minute = 7});
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->size(), 2u);
  const Caller* acme = table->Find("sesame");
  ASSERT_NE(acme, nullptr);
  EXPECT_EQ(acme->tenant, "acme");
  EXPECT_EQ(acme->expires, absl::FromCivil(absl::CivilDay(2027, 1, 31), absl::UTCTimeZone()));
  EXPECT_EQ(acme->quotas, (Quotas{0, 7, 5}));
  const Caller* beta = table->Find("other");
  ASSERT_NE(beta, nullptr);
  EXPECT_EQ(beta->expires, absl::InfiniteFuture());
  EXPECT_EQ(beta->quotas, (Quotas{0, 7, 0}));
  for (const char* wrong : {"", "Sesame", "sesame ", kSesame}) {
    EXPECT_EQ(table->Find(wrong), nullptr) << wrong;
  }
}

TEST(TokenTableTest, ATenantsTokensShareItsQuotas) {
  const std::string bare = Entry(kSesame, R"("tenant": "acme")");
  const std::string five =
      Entry(kOther, R"("tenant": "acme", "quotas": {"concurrent_requests": 5})");
  const auto table = TokenTable::Parse(File(bare + "," + five), {});
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->Find("sesame")->quotas, table->Find("other")->quotas);
  EXPECT_EQ(table->Find("sesame")->quotas.concurrent_requests, 5u);
  const std::string six =
      Entry(kSesame, R"("tenant": "acme", "quotas": {"concurrent_requests": 6})");
  EXPECT_THAT(std::string(TokenTable::Parse(File(six + "," + five), {}).status().message()),
              HasSubstr("tokens[1] states other quotas"));
}

TEST(TokenTableTest, WhatIsNotUnderstoodIsRefused) {
  const std::string good = Entry(kSesame, R"("tenant": "acme")");
  for (const auto& [text, says] : std::initializer_list<std::pair<std::string, std::string>>{
           {"", "not JSON"},
           {"{", "not JSON"},
           {"[]", "not an object"},
           {"{}", "no list 'tokens'"},
           {R"({"tokens": {}})", "no list 'tokens'"},
           {R"({"token": []})", "unknown key 'token'"},
           {File("7"), "tokens[0] is not an object"},
           {File(good + ",{}"), "tokens[1] has no string 'tenant'"},
           {File(R"({"tenant": "acme"})"), "no string 'sha256'"},
           {File(Entry("sesame", R"("tenant": "acme")")), "not 64 hex digits"},
           {File(Entry(std::string(64, 'g'), R"("tenant": "acme")")), "not 64 hex digits"},
           {File(Entry("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                       R"("tenant": "acme")")),
            "empty token"},
           {File(Entry(kSesame, R"("tenant": "")")), "tenant of 0 bytes"},
           {File(Entry(kSesame, "\"tenant\": \"" + std::string(129, 't') + "\"")), "129 bytes"},
           {File(Entry(kSesame, R"("tenant": "a", "expires": "soon")")), "'expires'"},
           {File(Entry(kSesame, R"("tenant": "a", "expires": 1)")), "no string 'expires'"},
           {File(Entry(kSesame, R"("tenant": "a", "expire": "2027-01-31T00:00:00Z")")),
            "unknown key 'expire'"},
           {File(Entry(kSesame, R"("tenant": "a", "quotas": {"tokens": 1})")),
            "'quotas' has the unknown key 'tokens'"},
           {File(Entry(kSesame, R"("tenant": "a", "quotas": {"tokens_per_minute": -1})")),
            "'tokens_per_minute'"},
           {File(Entry(kSesame, R"("tenant": "a", "quotas": {"tokens_per_minute": 1.5})")),
            "'tokens_per_minute'"},
           {File(absl::StrCat(good, ",", good)), "tokens[1] has the same 'sha256'"}}) {
    const auto table = TokenTable::Parse(text, {});
    ASSERT_FALSE(table.ok()) << text;
    EXPECT_TRUE(absl::IsInvalidArgument(table.status()));
    EXPECT_THAT(std::string(table.status().message()), HasSubstr(says)) << text;
    // Whoever puts the token itself there must not find it in a log.
    EXPECT_THAT(std::string(table.status().message()), Not(HasSubstr("sesame")));
  }
}

}  // namespace
}  // namespace strata::auth
