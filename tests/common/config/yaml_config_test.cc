#include "common/config/yaml_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "common/config/configuration.h"

namespace strata::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

// Options of every kind that the services have.
struct Options {
  Options() {
    app.add_option("--kv-tokens", kv_tokens)->check(CLI::Range(16, 4096))->capture_default_str();
    app.add_option("--dtype", dtype)->check(CLI::IsMember({"bf16", "fp32"}))->capture_default_str();
    app.add_option("--bytes", bytes)->transform(CLI::AsSizeValue(false))->capture_default_str();
    app.add_option("--share", share)->check(CLI::Range(0.0, 1.0))->capture_default_str();
    app.add_option("--folder", folder);
    app.add_option("--names", names);
    app.add_flag("--tls", tls);
    app.add_flag("!--no-self-check", self_check);
    app.add_option_function<std::string>(
           "--weights", [this](const std::string& value) { int8 = value == "int8"; })
        ->check(CLI::IsMember({"native", "int8"}))
        ->default_str("native");
  }

  CLI::App app;
  int kv_tokens = 64;
  std::string dtype = "bf16";
  uint64_t bytes = 1024;
  double share = 1;
  std::string folder;
  std::vector<std::string> names;
  bool tls = false;
  bool self_check = true;
  bool int8 = false;
};

class YamlConfigTest : public ::testing::Test {
 protected:
  YamlConfigTest()
      : file_(::testing::TempDir() + "yaml_config_test." + std::to_string(getpid()) + ".yaml") {}
  ~YamlConfigTest() override { unlink(file_.c_str()); }

  // What main() would return; nothing if the service would start.
  std::optional<int> Configure(Options& options, const std::string& yaml,
                               std::vector<std::string> arguments = {}) {
    std::ofstream(file_, std::ios::binary) << yaml;
    arguments.insert(arguments.begin(), {"test", "--config", file_});
    std::vector<const char*> argv;
    for (const std::string& argument : arguments) argv.push_back(argument.c_str());
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    const auto code = config::Configure(options.app, "STRATA_CONFIG_TEST_",
                                        static_cast<int>(argv.size()), argv.data(), 2, [] {});
    out_ = ::testing::internal::GetCapturedStdout();
    error_ = ::testing::internal::GetCapturedStderr();
    return code;
  }

  // What is said about a file that is refused, without the file's name.
  std::string Error(const std::string& yaml) {
    Options options;
    if (Configure(options, yaml) != 2) return "not refused";
    EXPECT_THAT(error_, StartsWith(file_ + ":"));
    return error_.substr(file_.size() + 1, error_.find('\n') - file_.size() - 1);
  }

  std::string file_;
  std::string out_;
  std::string error_;
};

TEST_F(YamlConfigTest, SetsEveryKindOfOption) {
  Options options;
  ASSERT_EQ(Configure(options,
                      "kv_tokens: 512\ndtype: fp32\nbytes: 512MB\nshare: 0.25\nfolder: /a b\n"
                      "names: [x, 'y, z']\ntls: yes\nno-self-check: true\nweights: int8\n"),
            std::nullopt)
      << error_;
  EXPECT_EQ(options.kv_tokens, 512);
  EXPECT_EQ(options.dtype, "fp32");
  EXPECT_EQ(options.bytes, uint64_t{512} << 20);
  EXPECT_EQ(options.share, 0.25);
  EXPECT_EQ(options.folder, "/a b");
  EXPECT_THAT(options.names, ElementsAre("x", "y, z"));
  EXPECT_TRUE(options.tls);
  EXPECT_FALSE(options.self_check);
  EXPECT_TRUE(options.int8);
}

TEST_F(YamlConfigTest, FlagsCanBeFalse) {
  Options options;
  ASSERT_EQ(Configure(options, "tls: false\nno-self-check: off\n"), std::nullopt) << error_;
  EXPECT_FALSE(options.tls);
  EXPECT_TRUE(options.self_check);
}

TEST_F(YamlConfigTest, AnEmptyFileSetsNothing) {
  Options options;
  ASSERT_EQ(Configure(options, ""), std::nullopt) << error_;
  EXPECT_EQ(options.kv_tokens, 64);
  EXPECT_THAT(options.names, IsEmpty());
}

TEST_F(YamlConfigTest, TheCommandLineWins) {
  Options options;
  ASSERT_EQ(Configure(options, "kv-tokens: 512\nno-self-check: true\nnames: [x]\n",
                      {"--kv-tokens", "128", "--no-self-check=false", "--names", "y"}),
            std::nullopt)
      << error_;
  EXPECT_EQ(options.kv_tokens, 128);
  EXPECT_TRUE(options.self_check);
  EXPECT_THAT(options.names, ElementsAre("y"));
}

TEST_F(YamlConfigTest, NamesTheNearestKey) {
  EXPECT_EQ(Error("dtype: bf16\nkv-token: 512\n"),
            "2: kv-token: unknown key; the nearest known one is kv-tokens");
  EXPECT_EQ(Error("--kv-tokens: 512\n"),
            "1: --kv-tokens: unknown key; the nearest known one is kv-tokens");
  EXPECT_EQ(Error("KV-TOKENS: 512\n").substr(0, 26), "1: KV-TOKENS: unknown key;");
  EXPECT_THAT(Error("\"\\e[2J\": 1\n"), HasSubstr("\\033[2J: unknown key"));
  EXPECT_EQ(Error("config: other.yaml\n"),
            "1: config: this is for the command line, not for a file");
  EXPECT_EQ(Error("help: true\n"), "1: help: this is for the command line, not for a file");
}

TEST_F(YamlConfigTest, NamesWhatIsWrongWithAValue) {
  EXPECT_EQ(Error("kv-tokens: 5\n"), "1: kv-tokens: Value 5 not in range 16 to 4096");
  EXPECT_EQ(Error("kv-tokens: 5.5\n"), "1: kv-tokens: Value 5.5 not in range 16 to 4096");
  EXPECT_THAT(Error("dtype: fp8\n"), HasSubstr("1: dtype: fp8 not in {"));
  EXPECT_THAT(Error("bytes: 5XB\n"), StartsWith("1: bytes: Value 5XB: "));
  EXPECT_THAT(Error("bytes: 99999999999999999999GB\n"), StartsWith("1: bytes: "));
  EXPECT_EQ(Error("tls: maybe\n"), "1: tls: Value maybe is not true or false");
  EXPECT_EQ(Error("folder: \"a\\0b\"\n"), "1: folder: the value holds a NUL character");
  EXPECT_THAT(Error("kv-tokens: \"\"\n"), StartsWith("1: kv-tokens: Value "));
}

TEST_F(YamlConfigTest, ValuesThatAreOverriddenAreCheckedToo) {
  Options options;
  EXPECT_EQ(Configure(options, "kv-tokens: 5\n", {"--kv-tokens", "128"}), 2);
  EXPECT_THAT(error_, HasSubstr("Value 5 not in range"));
}

TEST_F(YamlConfigTest, RefusesKeysThatAreThereTwice) {
  EXPECT_EQ(Error("kv-tokens: 512\ndtype: bf16\nkv_tokens: 512\n"),
            "3: kv_tokens: set already in line 1");
}

TEST_F(YamlConfigTest, RefusesListsForOneValue) {
  EXPECT_EQ(Error("kv-tokens: [512]\n"), "1: kv-tokens: takes one value, not a list");
  EXPECT_EQ(Error("tls: []\n"), "1: tls: takes one value, not a list");
  EXPECT_EQ(Error("names: []\n"), "1: names: the list is empty; leave the key out");
}

TEST_F(YamlConfigTest, HelpWorksWhateverTheFileHolds) {
  Options options;
  EXPECT_EQ(Configure(options, "nonsense: 1\n", {"--help"}), 0);
  EXPECT_THAT(out_, HasSubstr("STRATA_CONFIG_TEST_DRAIN_SECONDS"));
}

TEST_F(YamlConfigTest, SaysThatAFolderIsNoFile) {
  Options options;
  const std::vector<const char*> argv = {"test", "--config", "/tmp"};
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(config::Configure(options.app, "STRATA_CONFIG_TEST_", 3, argv.data(), 2, [] {}), 2);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("/tmp is a folder, not a file"));
}

TEST_F(YamlConfigTest, PrintsWhatItReads) {
  const std::string first =
      "kv-tokens: 512\ndtype: fp32\nbytes: 536870912\nshare: 0.25\nfolder: \"a: #\\nb\"\n"
      "names: [\"x\", \"y, [z]\"]\ntls: true\nno-self-check: true\nweights: int8\n";
  Options options;
  EXPECT_EQ(Configure(options, first, {"--print-config"}), 0) << error_;
  EXPECT_EQ(out_, first);
}

TEST_F(YamlConfigTest, PrintsDefaultsAndThatOthersHaveNone) {
  Options options;
  EXPECT_EQ(Configure(options, "share: 0.5\n", {"--print-config", "--no-self-check=false"}), 0);
  EXPECT_EQ(out_,
            "kv-tokens: 64\ndtype: bf16\nbytes: 1024\nshare: 0.5\n# folder:\n# names:\n"
            "tls: false\nno-self-check: false\nweights: native\n");
}

TEST_F(YamlConfigTest, CannotPrintWhatIsNotUtf8) {
  Options options;
  EXPECT_EQ(Configure(options, "", {"--print-config", "--folder", "\xFF"}), 2);
  EXPECT_THAT(error_, HasSubstr("--folder: the value is not UTF-8"));
}

}  // namespace
}  // namespace strata::config
