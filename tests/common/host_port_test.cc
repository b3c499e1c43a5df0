#include "common/base/host_port.h"

#include <gtest/gtest.h>

namespace strata {
namespace {

TEST(HostPortTest, HostAndPort) {
  const auto parsed = ParseHostPort("verify.example.com:50051");
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(parsed->host, "verify.example.com");
  EXPECT_EQ(parsed->port, 50051);
}

TEST(HostPortTest, TheLastColonParts) {
  EXPECT_EQ(ParseHostPort("::1:80")->host, "::1");
  EXPECT_EQ(ParseHostPort("[::1]:80")->host, "::1");
  EXPECT_EQ(ParseHostPort("[::]:0")->host, "::");
  EXPECT_EQ(ParseHostPort("[fe80::1%eth0]:1")->host, "fe80::1%eth0");
  EXPECT_EQ(ParseHostPort("[::]:0")->port, 0);
  EXPECT_EQ(ParseHostPort("a:65535")->port, 65535);
  EXPECT_EQ(ParseHostPort("a:00080")->port, 80);
}

TEST(HostPortTest, WithTheGivenPort) {
  EXPECT_EQ(WithPort("verify:0", 50051), "verify:50051");
  EXPECT_EQ(WithPort("[::1]:0", 80), "[::1]:80");
}

TEST(HostPortTest, WhatIsNone) {
  for (const char* address : {"", ":", ":80", "host", "host:", "host:65536", "host:99999999999",
                              "host:-1", "host:+1", "host: 1", "host:1 ", "host:http", "my host:1",
                              "host\n:1", "h\xc3\xb6st:1", "a:1,b:2", "+1:1", "dns:///host:1"}) {
    EXPECT_FALSE(ParseHostPort(address).has_value()) << address;
  }
}

}  // namespace
}  // namespace strata
