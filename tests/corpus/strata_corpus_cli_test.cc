// The strata-corpus binary itself, with a real tokenizer: flags, messages, exit status.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/tokenizer/tokenizer.h"
#include "services/draft/corpus/build.h"
#include "services/draft/corpus/corpus_tier.h"
#include "tests/corpus/corpus_testing.h"

namespace strata::draft {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::ReadFile;
using testing::Reference;
using testing::TempDir;
using testing::Tokens;
using testing::ToString;
using testing::WriteFile;

struct Result {
  int exit = -1;
  std::string out, err;
};

class Cli : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* model = std::getenv("STRATA_TEST_MODEL");
    ASSERT_NE(model, nullptr) << "STRATA_TEST_MODEL must name a model folder with tokenizer.json";
    model_ = model;
  }

  // Arguments are given to the shell.
  Result Run(const std::string& arguments) {
    const std::string command = "'" STRATA_CORPUS_BINARY "' " + arguments + " >'" + (dir_ / "out") +
                                "' 2>'" + (dir_ / "err") + "' </dev/null";
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, ReadFile(dir_ / "out"),
            ReadFile(dir_ / "err")};
  }
  Result Build(const std::string& arguments) {
    return Run("build --tokenizer '" + model_ + "' --out '" + (dir_ / "root") + "' " + arguments);
  }

  TempDir dir_;
  std::string model_;
};

TEST_F(Cli, BuildsInspectsVerifies) {
  const std::vector<std::string> texts = {"def main():\n    return 0\n",
                                          "def main():\n    return 1\n# \xFF broken\n"};
  WriteFile(dir_ / "in/a.py", texts[0]);
  WriteFile(dir_ / "in/sub/b.md", texts[1]);
  WriteFile(dir_ / "in/sub/c.bin", std::string(100, '\0'));
  Result result = Build("--name one --json '" + (dir_ / "in") + "'");
  ASSERT_EQ(result.exit, 0) << result.err;
  // Not a terminal: no bar.
  EXPECT_EQ(result.err, "");
  auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["documents"], 2);
  EXPECT_EQ(json["skipped_binary_files"], 1);
  EXPECT_EQ(ReadFile(dir_ / "root/CURRENT"), "one\n");

  // It holds what the tokenizer's ids of these texts hold.
  auto tokenizer = Tokenizer::Load(model_);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  auto tier = CorpusTier::Open(dir_ / "root", 1 << 20);
  ASSERT_TRUE(tier.ok()) << tier.status();
  EXPECT_EQ((*tier)->tokenizer_fingerprint(), (*tokenizer)->fingerprint());
  EXPECT_EQ((*tier)->vocab_size(), (*tokenizer)->vocab_size());
  const testing::Documents documents = {(*tokenizer)->Encode(texts[0], false),
                                        (*tokenizer)->Encode(texts[1], false)};
  const Reference reference(documents, CountOptions());
  ASSERT_GT(reference.Contexts().size(), 10u);
  for (const Tokens& context : reference.Contexts()) {
    EXPECT_EQ(ToString(testing::Ask(**tier, context)), ToString(reference.Match(context, 8, 3)));
  }

  result = Run("inspect '" + (dir_ / "root") + "'");
  EXPECT_EQ(result.exit, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr((*tokenizer)->fingerprint()));
  result = Run("inspect --json '" + (dir_ / "root/one") + "'");
  EXPECT_EQ(result.exit, 0) << result.err;
  EXPECT_EQ(nlohmann::json::parse(result.out)["context_count"], reference.Contexts().size());
  result = Run("verify '" + (dir_ / "root") + "'");
  EXPECT_EQ(result.exit, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("whole"));
  result = Run("verify --json '" + (dir_ / "root") + "'");
  EXPECT_EQ(nlohmann::json::parse(result.out)["contexts"], reference.Contexts().size());
}

// On a terminal, which standard error is here, a bar shows each phase up to its end.
TEST_F(Cli, ShowsABarOnATerminal) {
  std::string text;
  for (int i = 0; i < 20000; ++i) text += "line " + std::to_string(i) + "\n";
  WriteFile(dir_ / "in.txt", text);
  const std::string out = dir_ / "root";
  const std::string in = dir_ / "in.txt";
  int terminal = -1;
  const pid_t child = forkpty(&terminal, nullptr, nullptr, nullptr);
  ASSERT_GE(child, 0);
  if (child == 0) {
    execl(STRATA_CORPUS_BINARY, STRATA_CORPUS_BINARY, "build", "--tokenizer", model_.c_str(),
          "--out", out.c_str(), in.c_str(), nullptr);
    _exit(127);
  }
  std::string shown;
  char buffer[4096];
  // A terminal whose other end is closed reads as an error.
  for (ssize_t size; (size = read(terminal, buffer, sizeof(buffer))) > 0;) {
    shown.append(buffer, size);
  }
  close(terminal);
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << shown;
  const std::string full(40, '#');
  EXPECT_THAT(shown, HasSubstr("\rreading   ["));
  EXPECT_THAT(shown, HasSubstr("reading   [" + full + "] 100 %"));
  EXPECT_THAT(shown, HasSubstr("counting  [" + full + "] 100 %"));
}

TEST_F(Cli, ThreadsAndMemoryChangeNothing) {
  std::string lines;
  for (int i = 0; i < 30000; ++i) {
    lines += "{\"text\": \"number " + std::to_string(i * 7919 % 1000) + " of " +
             std::to_string(i % 77) + " and then some more of the same\"}\n";
  }
  WriteFile(dir_ / "in.jsonl", lines);
  ASSERT_EQ(Build("--name a --threads 1 '" + (dir_ / "in.jsonl") + "'").exit, 0);
  const Result b = Build(absl::StrCat("--name b --threads 4 --memory ", LeastBuildMemory(4) >> 20,
                                      " --json '", dir_ / "in.jsonl", "'"));
  ASSERT_EQ(b.exit, 0) << b.err;
  EXPECT_GT(nlohmann::json::parse(b.out)["runs"], 4);
  EXPECT_EQ(testing::AllFiles(dir_ / "root/a"), testing::AllFiles(dir_ / "root/b"));
}

TEST_F(Cli, MergedShardsEqualABuild) {
  WriteFile(dir_ / "1/a.txt", "some text of several tokens, some text of others");
  WriteFile(dir_ / "2/b.txt", "and some text of several tokens more");
  ASSERT_EQ(Build("--name one --shard '" + (dir_ / "1") + "'").exit, 0);
  ASSERT_EQ(Build("--name two --shard '" + (dir_ / "2") + "'").exit, 0);
  EXPECT_EQ(Run("inspect '" + (dir_ / "root/two") + "'").exit, 0);
  ASSERT_EQ(Build("--name all '" + (dir_ / "1") + "' '" + (dir_ / "2") + "'").exit, 0);
  const std::string out = "merge --out '" + (dir_ / "root") + "' ";
  Result result =
      Run(out + "--name merged --json '" + (dir_ / "root/one") + "' '" + (dir_ / "root/two") + "'");
  ASSERT_EQ(result.exit, 0) << result.err;
  EXPECT_EQ(nlohmann::json::parse(result.out)["documents"], 2);
  EXPECT_EQ(testing::AllFiles(dir_ / "root/merged"), testing::AllFiles(dir_ / "root/all"));
  EXPECT_EQ(ReadFile(dir_ / "root/CURRENT"), "merged\n");
  result = Run(out + "'" + (dir_ / "root/one") + "' '" + (dir_ / "root/all") + "'");
  EXPECT_EQ(result.exit, 1);
  EXPECT_THAT(result.err, HasSubstr("FAILED_PRECONDITION"));
  EXPECT_EQ(Run("verify '" + (dir_ / "root/one") + "'").exit, 0);
}

TEST_F(Cli, OptionsReachTheSnapshot) {
  WriteFile(dir_ / "in.jsonl", "{\"body\": \"a b c a b c a b d\"}\n");
  const Result result =
      Build("--field body --orders 1-4 --top 3 --prune-count 1 --prune-continuations 2 --json '" +
            (dir_ / "in.jsonl") + "'");
  ASSERT_EQ(result.exit, 0) << result.err;
  const auto options = nlohmann::json::parse(result.out)["options"];
  EXPECT_EQ(options["max_order"], 4);
  EXPECT_EQ(options["top"], 3);
  EXPECT_EQ(options["prune_count"], 1);
  EXPECT_EQ(options["prune_continuations"], 2);
}

TEST_F(Cli, FailuresSayWhatIsWrongAndLeaveNothing) {
  WriteFile(dir_ / "empty.txt", "");
  WriteFile(dir_ / "text.txt", "some text of several tokens");
  WriteFile(dir_ / "bad.jsonl", "{\"text\": \"a\"}\nnonsense\n");
  WriteFile(dir_ / "cut.xz",
            "\xFD"
            "7zXZ");
  fs::create_directory(dir_ / "hollow");
  const std::string text = "'" + (dir_ / "text.txt") + "'";
  const std::pair<std::string, std::string> cases[] = {
      {"'" + (dir_ / "empty.txt") + "'", "holds no text"},
      {"'" + (dir_ / "hollow") + "'", "hold no files"},
      {"'" + (dir_ / "none.txt") + "'", "no such file or folder"},
      {"'" + (dir_ / "bad.jsonl") + "'", "bad.jsonl, line 2: it is not JSON"},
      {"'" + (dir_ / "cut.xz") + "'", "ends too early"},
      {"--orders 0-3 " + text, "--orders 0-3"},
      {"--orders 1-9 " + text, "--orders 1-9"},
      {"--orders 2-4 " + text, "--orders 2-4"},
      {"--orders x " + text, "--orders x"},
      {"--top 0 " + text, "top: 0 is not in 1 to 8"},
      {"--prune-count 0 " + text, "prune-count"},
      {"--prune-continuations 0 " + text, "prune-continuations"},
      {"--threads 0 " + text, "threads: 0"},
      {"--threads 2 --memory 225 " + text,
       "memory: 225 MiB; with threads = 2 at least 226 are needed (with one, 161)"},
      {"--memory 160 " + text, "with threads = 1 at least 161 are needed"},
      {"--name ../x " + text, "not a plain folder name"},
  };
  for (const auto& [arguments, message] : cases) {
    const Result result = Build(arguments);
    EXPECT_EQ(result.exit, 1) << arguments;
    EXPECT_EQ(result.out, "") << arguments;
    EXPECT_THAT(result.err, HasSubstr(message)) << arguments;
    EXPECT_THAT(result.err, ::testing::StartsWith("strata-corpus: ")) << arguments;
    EXPECT_TRUE(!fs::exists(dir_ / "root") || fs::is_empty(dir_ / "root")) << arguments;
  }
  Result result =
      Run("build --tokenizer '" + (dir_ / "hollow") + "' --out '" + (dir_ / "root") + "' " + text);
  EXPECT_EQ(result.exit, 1);
  EXPECT_THAT(result.err, HasSubstr("NOT_FOUND"));
  for (const char* command : {"inspect", "verify"}) {
    result = Run(std::string(command) + " '" + (dir_ / "hollow") + "'");
    EXPECT_EQ(result.exit, 1);
    EXPECT_THAT(result.err, HasSubstr("FAILED_PRECONDITION"));
  }
}

TEST_F(Cli, DamageIsFoundByVerify) {
  WriteFile(dir_ / "in.txt", "some text of several tokens");
  ASSERT_EQ(Build("--name s '" + (dir_ / "in.txt") + "'").exit, 0);
  testing::FlipBit(dir_ / "root/s/rocksdb/000008.sst", 10, 3);
  const Result result = Run("verify '" + (dir_ / "root") + "'");
  EXPECT_EQ(result.exit, 1);
  EXPECT_THAT(result.err, HasSubstr("DATA_LOSS"));
  EXPECT_THAT(result.err, HasSubstr("rocksdb/000008.sst"));
}

TEST_F(Cli, ASnapshotIsCheckedBeforeItIsLive) {
  WriteFile(dir_ / "in.txt", "some text of several tokens");
  const std::string in = "'" + (dir_ / "in.txt") + "'";
  ASSERT_EQ(Build("--name a --keep-current " + in).exit, 0);
  EXPECT_FALSE(fs::exists(dir_ / "root/CURRENT"));
  ASSERT_EQ(Build("--name b " + in).exit, 0);
  ASSERT_EQ(Build("--name shard --shard " + in).exit, 0);
  EXPECT_EQ(ReadFile(dir_ / "root/CURRENT"), "b\n");

  const auto publish = [this](const std::string& name) {
    return Run("publish '" + (dir_ / ("root/" + name)) + "'");
  };
  Result result = publish("a");
  EXPECT_EQ(result.exit, 0) << result.err;
  EXPECT_EQ(result.out, "live now: a; before: b\n");
  EXPECT_EQ(ReadFile(dir_ / "root/CURRENT"), "a\n");
  // And back, with a '/' as a shell completes it.
  EXPECT_EQ(publish("b/").out, "live now: b; before: a\n");
  EXPECT_EQ(ReadFile(dir_ / "root/CURRENT"), "b\n");
  EXPECT_EQ(Run("verify '" + (dir_ / "root") + "'").exit, 0);

  fs::create_directory(dir_ / "root/unfinished");
  WriteFile(dir_ / "root/damaged/manifest.json", "{}");
  for (const auto& [name, message] :
       {std::pair("shard", "is a shard"), std::pair("none", "NOT_FOUND"),
        std::pair("unfinished", "FAILED_PRECONDITION"), std::pair("damaged", "DATA_LOSS")}) {
    result = publish(name);
    EXPECT_EQ(result.exit, 1) << name;
    EXPECT_THAT(result.err, HasSubstr(message)) << name;
  }
  EXPECT_EQ(ReadFile(dir_ / "root/CURRENT"), "b\n");
  // Whatever CURRENT says, a good snapshot can be made live.
  WriteFile(dir_ / "root/CURRENT", "gone\n");
  EXPECT_EQ(publish("a").out, "live now: a; before: none\n");
}

TEST_F(Cli, OldSnapshotsAreRemovedOnRequestAlone) {
  WriteFile(dir_ / "in.txt", "some text of several tokens");
  const std::string in = "'" + (dir_ / "in.txt") + "'";
  const fs::file_time_type start = fs::file_time_type::clock::now();
  for (int i = 0; i < 6; ++i) {
    const std::string name(1, static_cast<char>('a' + i));
    std::string flags = "--keep-current --name ";
    flags.append(name).append(" ").append(in);
    ASSERT_EQ(Build(flags).exit, 0);
    fs::last_write_time(dir_ / ("root/" + name + "/manifest.json"), start + std::chrono::hours(i));
  }
  ASSERT_EQ(Build("--name shard --shard " + in).exit, 0);
  fs::last_write_time(dir_ / "root/shard/manifest.json", start - std::chrono::hours(1));
  WriteFile(dir_ / "root/unfinished/staging/job", "x");
  WriteFile(dir_ / "root/damaged/manifest.json", "{}");
  // Of calls that were killed.
  WriteFile(dir_ / "root/y~removed/rocksdb/000008.sst", "x");
  WriteFile(dir_ / "root/z~removed/manifest.json", "{}");
  fs::create_directory_symlink(dir_ / "root/a", dir_ / "root/link");
  const auto publish = [this](const std::string& name, const std::string& options) {
    return Run("publish " + options + " '" + (dir_ / ("root/" + name)) + "'");
  };
  const auto here = [this] {
    std::string names;
    for (const char* name : {"a", "b", "c", "d", "e", "f", "shard", "unfinished", "damaged", "link",
                             "y~removed", "z~removed"}) {
      if (fs::exists(dir_ / (std::string("root/") + name))) names += std::string(name) + " ";
    }
    return names;
  };
  const std::string others = "shard unfinished damaged link ";
  ASSERT_EQ(publish("b", "").exit, 0);
  EXPECT_EQ(here(), "a b c d e f " + others + "y~removed z~removed ");
  EXPECT_EQ(publish("b", "--keep 0").exit, 2);
  EXPECT_EQ(publish("shard", "--keep 1").exit, 1);
  EXPECT_EQ(here(), "a b c d e f " + others + "y~removed z~removed ");

  // The live one is old, and so is the one before.
  Result result = publish("a", "--keep 2");
  EXPECT_EQ(result.exit, 0) << result.err;
  EXPECT_EQ(result.out, "live now: a; before: b\nremoved: c\nremoved: d\n");
  EXPECT_EQ(here(), "a b e f " + others);
  // With a '/', as a shell completes it.
  EXPECT_EQ(publish("f/", "--keep 1").out, "live now: f; before: a\nremoved: b\nremoved: e\n");
  EXPECT_EQ(publish("f", "--keep 1").out, "live now: f; before: f\nremoved: a\n");
  EXPECT_EQ(Run("verify '" + (dir_ / "root") + "'").exit, 0);
}

TEST_F(Cli, ModelTiersNeedATenant) {
  fs::create_directory(dir_ / "tiers");
  WriteFile(dir_ / "tiers/bad.tier", "x");
  const std::string tiers = "--model-tiers '" + (dir_ / "tiers") + "' ";
  Result result = Build(tiers);
  EXPECT_EQ(result.exit, 1);
  EXPECT_THAT(result.err, HasSubstr("--tenant NAME"));
  WriteFile(dir_ / "in.txt", "some text of several tokens");
  result = Build(tiers + "--tenant acme --tenant other --json '" + (dir_ / "in.txt") + "'");
  EXPECT_EQ(result.exit, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("warning: model tier " + (dir_ / "tiers/bad.tier")));
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["documents"], 1);
  EXPECT_EQ(json["skipped_tier_files"], 1);
}

TEST_F(Cli, WrongUsageIsStatusTwo) {
  for (const char* arguments :
       {"", "frobnicate", "build", "build --out x y", "inspect", "build --tokenizer a --out b",
        "publish", "build --tokenizer a --out b --memory 0 c",
        "build --tokenizer a --out b --top many c"}) {
    EXPECT_EQ(Run(arguments).exit, 2) << arguments;
  }
  EXPECT_EQ(Run("--help").exit, 0);
  EXPECT_THAT(Run("build --help").out, HasSubstr("--prune-count"));
  EXPECT_THAT(Run("build --help").out, HasSubstr("At least 161, and 65 more"));
}

}  // namespace
}  // namespace strata::draft
