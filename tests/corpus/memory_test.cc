// The limit of `strata-corpus build --memory`, as the kernel sees it.

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "services/draft/corpus/build.h"
#include "services/draft/corpus/window_sorter.h"
#include "tests/corpus/corpus_testing.h"

namespace strata::draft {
namespace {

using testing::ReadFile;
using testing::TempDir;
using testing::WriteFile;

// Words that are a token each to the models' tokenizers, in no order: hardly a window comes twice,
// so that runs are as large as they get.
std::string RandomWords(size_t count) {
  std::mt19937 random(1);
  std::string text;
  text.reserve(3 * count);
  for (size_t i = 0; i < count; ++i) {
    text.push_back(' ');
    text.push_back(static_cast<char>('a' + random() % 26));
    if (i % 100 == 99) text.push_back('\n');
  }
  return text;
}

// Peak resident bytes of a build of `input`; 0 if it failed.
size_t PeakOfBuild(const TempDir& dir, const std::string& name, size_t memory_bytes, int threads) {
  const std::string binary = STRATA_CORPUS_BINARY, out = dir / "root", input = dir / "in.txt";
  const std::string memory = absl::StrCat(memory_bytes >> 20), number = absl::StrCat(threads);
  const char* const model = std::getenv("STRATA_TEST_MODEL");
  const std::string messages = dir / "messages";
  const pid_t pid = fork();
  if (pid == 0) {
    if (std::freopen(messages.c_str(), "w", stdout) == nullptr) _exit(126);
    if (std::freopen(messages.c_str(), "a", stderr) == nullptr) _exit(126);
    execl(binary.c_str(), binary.c_str(), "build", "--tokenizer", model, "--out", out.c_str(),
          "--name", name.c_str(), "--memory", memory.c_str(), "--threads", number.c_str(),
          // No context is so rare that it is left out: that is most to write.
          "--prune-count", "1", input.c_str(), nullptr);
    _exit(127);
  }
  int status = -1;
  rusage usage{};
  EXPECT_EQ(wait4(pid, &status, 0, &usage), pid);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << ReadFile(messages);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? static_cast<size_t>(usage.ru_maxrss) << 10
                                                       : 0;
}

TEST(BuildMemory, StaysWithinItsLimit) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the sanitizer's own memory counts too";
#endif
  ASSERT_NE(std::getenv("STRATA_TEST_MODEL"), nullptr);
  TempDir dir;
  // More windows than the smaller limit has room for.
  const size_t words = LeastBuildMemory(1) / WindowSorter::kBytesPerToken;
  WriteFile(dir / "in.txt", RandomWords(words));
  struct Case {
    int threads;
    // Beyond the least. Without, there are runs in plenty; with some, large ones.
    size_t more_mib;
  };
  for (const Case& one : {Case{1, 0}, Case{3, 48}}) {
    const size_t limit = LeastBuildMemory(one.threads) + (one.more_mib << 20);
    const size_t peak = PeakOfBuild(dir, absl::StrCat(one.threads, "-threads"), limit, one.threads);
    EXPECT_LE(peak, limit) << one.threads << " threads";
    // Else the limit would say nothing.
    EXPECT_GT(peak, limit / 4) << one.threads << " threads";
  }
}

}  // namespace
}  // namespace strata::draft
