#include "common/config/environment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace strata::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class EnvironmentTest : public ::testing::Test {
 protected:
  EnvironmentTest() {
    app_.set_config("--config");
    app_.add_option("--kv-tokens", kv_tokens_)->check(CLI::Range(16, 4096));
    app_.add_option("--port-file", port_file_);
    app_.add_flag("!--no-self-check", self_check_);
    app_.add_flag("--print-config")->configurable(false);
  }

  absl::StatusOr<std::vector<std::string>> Arguments(
      const std::vector<std::string>& variables, const std::set<const CLI::Option*>& given = {}) {
    std::vector<const char*> environment;
    for (const std::string& variable : variables) environment.push_back(variable.c_str());
    environment.push_back(nullptr);
    return ArgumentsFromEnvironment(app_, "STRATA_VERIFY_", environment.data(), given);
  }

  std::string Error(const std::vector<std::string>& variables) {
    const auto arguments = Arguments(variables);
    return arguments.ok() ? "no error" : std::string(arguments.status().message());
  }

  CLI::App app_;
  int kv_tokens_ = 0;
  std::string port_file_;
  bool self_check_ = true;
};

TEST_F(EnvironmentTest, MakesArguments) {
  const auto arguments = Arguments({"PATH=/bin", "STRATA_VERIFY_KV_TOKENS=512",
                                    "STRATA_VERIFY_PORT_FILE=/a=b c", "STRATA_VERIFY_CONFIG=x"});
  ASSERT_TRUE(arguments.ok()) << arguments.status();
  EXPECT_THAT(*arguments, ElementsAre("--config=x", "--kv-tokens=512", "--port-file=/a=b c"));
}

TEST_F(EnvironmentTest, TakesFlagsAsTheyAreMeant) {
  for (const char* value : {"true", "1", "YES", "on"}) {
    const auto arguments = Arguments({std::string("STRATA_VERIFY_NO_SELF_CHECK=") + value});
    ASSERT_TRUE(arguments.ok()) << arguments.status();
    EXPECT_THAT(*arguments, ElementsAre("--no-self-check=true"));
  }
  const auto arguments = Arguments({"STRATA_VERIFY_NO_SELF_CHECK=off"});
  ASSERT_TRUE(arguments.ok());
  EXPECT_THAT(*arguments, ElementsAre("--no-self-check=false"));
  EXPECT_EQ(Error({"STRATA_VERIFY_NO_SELF_CHECK=maybe"}),
            "environment variable STRATA_VERIFY_NO_SELF_CHECK: Value maybe is not true or false");
}

TEST_F(EnvironmentTest, OnlyThePrefixIsItsBusiness) {
  const auto arguments =
      Arguments({"STRATA_TEST_MODEL=/m", "STRATA_CACHE=/c", "STRATA_BIN=/b", "STRATA_VERIFY=1",
                 "STRATA_DRAFT_LISTEN=a:1", "STRATA_VERIFYX=1", "strata_verify_kv_tokens=1", "="});
  ASSERT_TRUE(arguments.ok()) << arguments.status();
  EXPECT_THAT(*arguments, IsEmpty());
}

TEST_F(EnvironmentTest, EmptyIsUnset) {
  const auto arguments = Arguments({"STRATA_VERIFY_KV_TOKENS="});
  ASSERT_TRUE(arguments.ok()) << arguments.status();
  EXPECT_THAT(*arguments, IsEmpty());
  EXPECT_THAT(Error({"STRATA_VERIFY_KV_TOKEN="}), HasSubstr("unknown"));
}

TEST_F(EnvironmentTest, TheCommandLineWins) {
  const auto arguments =
      Arguments({"STRATA_VERIFY_KV_TOKENS=512"}, {app_.get_option("--kv-tokens")});
  ASSERT_TRUE(arguments.ok()) << arguments.status();
  EXPECT_THAT(*arguments, IsEmpty());
}

TEST_F(EnvironmentTest, NamesTheNearestVariable) {
  EXPECT_EQ(Error({"STRATA_VERIFY_KV_TOKEN=5"}),
            "unknown environment variable STRATA_VERIFY_KV_TOKEN; the nearest known one is "
            "STRATA_VERIFY_KV_TOKENS");
  // What only makes sense on a command line has no variable.
  EXPECT_THAT(Error({"STRATA_VERIFY_PRINT_CONFIG=1"}), HasSubstr("unknown"));
  EXPECT_THAT(Error({"STRATA_VERIFY_HELP=1"}), HasSubstr("unknown"));
  EXPECT_THAT(Error({"STRATA_VERIFY_=1"}), HasSubstr("unknown"));
}

TEST_F(EnvironmentTest, NamesWhatIsWrongWithAValue) {
  EXPECT_EQ(Error({"STRATA_VERIFY_KV_TOKENS=5"}),
            "environment variable STRATA_VERIFY_KV_TOKENS: Value 5 not in range 16 to 4096");
  EXPECT_THAT(Error({"STRATA_VERIFY_KV_TOKENS=many"}), HasSubstr("Value many not in range"));
}

TEST_F(EnvironmentTest, IgnoresTheServiceLinksOfKubernetes) {
  // As documented for a Service of two ports, one of them named grpc.
  const auto arguments = Arguments({
      "STRATA_VERIFY_SERVICE_HOST=10.0.0.11",
      "STRATA_VERIFY_SERVICE_PORT=50061",
      "STRATA_VERIFY_SERVICE_PORT_GRPC=50061",
      "STRATA_VERIFY_PORT=tcp://10.0.0.11:50061",
      "STRATA_VERIFY_PORT_50061_TCP=tcp://10.0.0.11:50061",
      "STRATA_VERIFY_PORT_50061_TCP_PROTO=tcp",
      "STRATA_VERIFY_PORT_50061_TCP_PORT=50061",
      "STRATA_VERIFY_PORT_50061_TCP_ADDR=10.0.0.11",
      "STRATA_VERIFY_PORT_53_UDP_ADDR=10.0.0.11",
  });
  ASSERT_TRUE(arguments.ok()) << arguments.status();
  EXPECT_THAT(*arguments, IsEmpty());
  // Alone too.
  EXPECT_EQ(Error({"STRATA_VERIFY_PORT=tcp://10.0.0.11:50061"}), "no error");
  EXPECT_EQ(Error({"STRATA_VERIFY_PORT_50061_TCP=tcp://10.0.0.11:50061"}), "no error");
}

TEST_F(EnvironmentTest, AnswersForNoOtherNames) {
  EXPECT_THAT(Error({"STRATA_VERIFY_HOST=a"}), HasSubstr("unknown"));
  EXPECT_THAT(Error({"STRATA_VERIFY_PORTS=a"}), HasSubstr("unknown"));
  EXPECT_THAT(Error({"STRATA_VERIFY_PORT_FILES=a"}), HasSubstr("STRATA_VERIFY_PORT_FILE"));
  EXPECT_THAT(Error({"STRATA_VERIFY_PORT_TCP=a"}), HasSubstr("unknown"));
  EXPECT_THAT(Error({"STRATA_VERIFY_PORT_50061_TCP_NAME=a"}), HasSubstr("unknown"));
  EXPECT_THAT(Error({"STRATA_VERIFY_SERVICE_HOSTS=a"}), HasSubstr("unknown"));
  EXPECT_THAT(Error({"STRATA_VERIFY_SERVICE_PORT_" + std::string(100000, 'A') + "=a"}),
              HasSubstr("unknown"));
}

TEST_F(EnvironmentTest, IgnoresLinksOfServicesWhoseNamesBeginSo) {
  const std::string host = "STRATA_VERIFY_CANARY_SERVICE_HOST=10.0.0.12";
  const std::string port = "STRATA_VERIFY_CANARY_PORT=tcp://10.0.0.12:50061";
  EXPECT_EQ(Error({port, host}), "no error");
  EXPECT_THAT(Error({port}), HasSubstr("unknown environment variable STRATA_VERIFY_CANARY_PORT"));
  EXPECT_THAT(Error({host, "STRATA_VERIFY_CANARY=x"}), HasSubstr("unknown"));
  // An option is never taken for a link.
  EXPECT_EQ(Arguments({host, "STRATA_VERIFY_PORT_FILE=/p"})->size(), 1U);
}

}  // namespace
}  // namespace strata::config
