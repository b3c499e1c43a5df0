// strata-corpus build, killed at many moments: the same command goes on and gives the same bytes.

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "services/draft/corpus/build.h"
#include "services/draft/corpus/corpus_tier.h"
#include "services/draft/corpus/staging.h"
#include "tests/corpus/corpus_testing.h"

namespace strata::draft {
namespace {

namespace fs = std::filesystem;
using testing::AllFiles;
using testing::ReadFile;
using testing::TempDir;
using testing::WriteFile;

class Resume : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* model = std::getenv("STRATA_TEST_MODEL");
    ASSERT_NE(model, nullptr) << "STRATA_TEST_MODEL must name a model folder with tokenizer.json";
    model_ = model;
    // Several files, one of them of many parts; the least memory gives many runs.
    std::string large;
    for (int i = 0; i < 65000; ++i) {
      absl::StrAppend(&large, "{\"text\": \"line ", i * 7919 % 5003, " of ", i % 77, " says that ",
                      i * 31 % 1009, " is not the same as it was\"}\n");
    }
    WriteFile(dir_ / "in/b.jsonl", large);
    for (int i = 0; i < 20; ++i) {
      std::string text;
      for (int line = 0; line < 300; ++line) {
        absl::StrAppend(&text, "value_", (line * i) % 41, " = compute(", line % 13, ")\n");
      }
      WriteFile(dir_ / absl::StrCat("in/", i % 2 ? "a" : "c", i, ".py"), text);
    }
  }

  // Returns the pid.
  pid_t Start(const std::vector<std::string>& more) {
    const std::string memory = absl::StrCat(LeastBuildMemory(2) >> 20);
    std::vector<std::string> arguments = {
        STRATA_CORPUS_BINARY, "build", "--tokenizer", model_, "--out",    dir_ / "root",
        "--memory",           memory,  "--threads",   "2",    dir_ / "in"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    const pid_t pid = fork();
    if (pid == 0) {
      if (std::freopen((dir_ / "out").c_str(), "w", stdout) == nullptr) _exit(126);
      if (std::freopen((dir_ / "err").c_str(), "w", stderr) == nullptr) _exit(126);
      execv(argv[0], argv.data());
      _exit(127);
    }
    return pid;
  }
  int Wait(pid_t pid) {
    int status = -1;
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  int Run(const std::vector<std::string>& more) { return Wait(Start(more)); }

  static size_t Runs(const std::string& snapshot) {
    size_t runs = 0;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(snapshot + "/staging", error)) {
      const std::string name = entry.path().filename().string();
      runs += name.starts_with("run-") && !name.ends_with(".tmp");
    }
    return runs;
  }

  // Kills a build of `name` as soon as `reached`. False if it was done before.
  template <typename Reached>
  bool KillWhen(const std::string& name, int signal, Reached reached) {
    const pid_t pid = Start({"--name", name});
    while (!reached()) {
      int status = -1;
      if (waitpid(pid, &status, WNOHANG) == pid) return false;
      absl::SleepFor(absl::Microseconds(200));
    }
    kill(pid, signal);
    Wait(pid);
    return true;
  }

  TempDir dir_;
  std::string model_;
};

TEST_F(Resume, KilledAnywhereItGoesOnAndGivesTheSameBytes) {
  ASSERT_EQ(Run({"--name", "whole"}), 0) << ReadFile(dir_ / "err");
  const auto whole = AllFiles(dir_ / "root/whole");
  const std::string path = dir_ / "root/killed";
  // After each new run, as long as there are new ones, then in the phases that follow.
  int kills = 0;
  for (size_t runs : {1u, 2u, 4u, 7u, 11u}) {
    kills += KillWhen("killed", SIGKILL, [&] { return Runs(path) >= runs; });
    EXPECT_GE(Runs(path), runs);
    EXPECT_FALSE(CorpusTier::Open(path, 1 << 20).ok());
  }
  EXPECT_EQ(kills, 5);
  const auto exists = [&](const std::string& file) {
    return [&, file] {
      std::error_code error;
      return fs::exists(path + file, error);
    };
  };
  const auto has_sst = [&] {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(path + "/staging", error)) {
      if (entry.path().extension() == ".sst") return true;
    }
    return false;
  };
  kills += KillWhen("killed", SIGKILL, has_sst);
  kills += KillWhen("killed", SIGKILL, exists("/rocksdb"));
  kills += KillWhen("killed", SIGKILL, exists("/manifest.json"));
  EXPECT_GE(kills, 6);
  // Unless the last kill came too late, there is something to go on from.
  if (!fs::exists(path + "/manifest.json") || fs::exists(path + "/staging")) {
    ASSERT_EQ(Run({"--name", "killed"}), 0) << ReadFile(dir_ / "err");
  }
  EXPECT_EQ(AllFiles(path), whole);
  EXPECT_EQ(ReadFile(dir_ / "root/CURRENT"), "killed\n");
  EXPECT_FALSE(fs::exists(path + "/staging"));
  auto a = CorpusTier::Open(dir_ / "root/whole", 1 << 20);
  auto b = CorpusTier::Open(path, 1 << 20);
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ((*a)->token_count(), (*b)->token_count());
}

TEST_F(Resume, GoesOnFromARunAndSaysSo) {
  const std::string path = dir_ / "root/s";
  ASSERT_TRUE(KillWhen("s", SIGKILL, [&] { return Runs(path) >= 3; }));
  const size_t runs = Runs(path);
  ASSERT_EQ(Run({"--name", "s"}), 0);
  EXPECT_NE(ReadFile(dir_ / "out").find(absl::StrCat("resumed      ", runs, " sorted runs")),
            std::string::npos)
      << ReadFile(dir_ / "out");
}

TEST_F(Resume, WithoutANameTheLeftoverIsFound) {
  const auto folders = [&] {
    std::vector<fs::path> found;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(dir_ / "root", error)) {
      if (entry.is_directory()) found.push_back(entry.path());
    }
    return found;
  };
  const pid_t pid = Start({});
  while (folders().empty() || Runs(folders()[0].string()) < 2) {
    int status;
    ASSERT_EQ(waitpid(pid, &status, WNOHANG), 0);
    absl::SleepFor(absl::Microseconds(200));
  }
  kill(pid, SIGKILL);
  Wait(pid);
  const auto left = folders();
  ASSERT_EQ(Run({}), 0);
  EXPECT_EQ(folders(), left);
  EXPECT_TRUE(CorpusTier::Open(dir_ / "root", 1 << 20).ok());
}

TEST_F(Resume, ALeftoverOfOtherWorkDoesNotBlock) {
  const std::string path = dir_ / "root/s";
  ASSERT_TRUE(KillWhen("s", SIGKILL, [&] { return Runs(path) >= 2; }));
  WriteFile(dir_ / "in/new.txt", "another file than before");
  ASSERT_EQ(Run({"--name", "s", "--json"}), 0) << ReadFile(dir_ / "err");
  EXPECT_NE(ReadFile(dir_ / "out").find("\"resumed_runs\": 0"), std::string::npos);
  const auto first = AllFiles(path);
  ASSERT_EQ(Run({"--name", "t"}), 0);
  EXPECT_EQ(AllFiles(dir_ / "root/t"), first);
  // A finished one is never built over.
  EXPECT_EQ(Run({"--name", "s"}), 1);
  EXPECT_NE(ReadFile(dir_ / "err").find("ALREADY_EXISTS"), std::string::npos);
}

TEST_F(Resume, AForeignFolderIsNeverCleaned) {
  // It happens to have a folder of the same name as a build's.
  fs::create_directories(dir_ / "root/web/staging");
  WriteFile(dir_ / "root/web/notes.txt", "mine");
  WriteFile(dir_ / "root/web/staging/page.html", "mine too");
  for (const std::string option : {"--json", "--fresh"}) {
    EXPECT_EQ(Run({"--name", "web", option}), 1);
    EXPECT_NE(ReadFile(dir_ / "err").find("ALREADY_EXISTS"), std::string::npos);
  }
  EXPECT_EQ(ReadFile(dir_ / "root/web/notes.txt"), "mine");
  EXPECT_EQ(ReadFile(dir_ / "root/web/staging/page.html"), "mine too");
}

TEST_F(Resume, FreshDiscardsAndInterruptionKeeps) {
  const std::string path = dir_ / "root/s";
  ASSERT_TRUE(KillWhen("s", SIGTERM, [&] { return Runs(path) >= 2; }));
  EXPECT_NE(ReadFile(dir_ / "err").find("CANCELLED"), std::string::npos);
  EXPECT_GE(Runs(path), 2u);
  ASSERT_EQ(Run({"--name", "s", "--fresh", "--json"}), 0) << ReadFile(dir_ / "err");
  EXPECT_NE(ReadFile(dir_ / "out").find("\"resumed_runs\": 0"), std::string::npos);
}

}  // namespace
}  // namespace strata::draft
