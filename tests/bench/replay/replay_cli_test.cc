// The strata-replay binary itself, in-process and against a strata-draft process.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <thread>

extern char** environ;

namespace strata::replay {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;

std::string ReadFile(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

struct Result {
  int exit = -1;
  std::string out, err;
};

// A strata-draft of this test's own.
class DraftProcess {
 public:
  explicit DraftProcess(const fs::path& folder) {
    const std::string port_file = folder / "port";
    const std::string log = folder / "draft.log";
    std::string binary = STRATA_DRAFT_BINARY;
    std::string port_flag = "--port-file=" + port_file;
    std::string listen = "--listen=127.0.0.1:0";
    char* arguments[] = {binary.data(), listen.data(), port_flag.data(), nullptr};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    if (posix_spawn(&pid_, binary.c_str(), &actions, nullptr, arguments, environ) != 0) pid_ = -1;
    posix_spawn_file_actions_destroy(&actions);
    for (int i = 0; pid_ > 0 && i < 300 && address_.empty(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      std::ifstream(port_file) >> address_;
    }
    if (address_.empty()) ADD_FAILURE() << "strata-draft does not serve: " << ReadFile(log);
    if (address_.find(':') == std::string::npos) address_ = "127.0.0.1:" + address_;
  }
  ~DraftProcess() {
    if (pid_ <= 0) return;
    kill(pid_, SIGTERM);
    int status = 0;
    waitpid(pid_, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  }
  const std::string& address() const { return address_; }

 private:
  pid_t pid_ = -1;
  std::string address_;
};

class ReplayCli : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* model = std::getenv("STRATA_TEST_MODEL");
    ASSERT_NE(model, nullptr) << "STRATA_TEST_MODEL must name a model folder with tokenizer.json";
    model_ = model;
    std::string path = (fs::temp_directory_path() / "strata-replay-XXXXXX").string();
    ASSERT_NE(mkdtemp(path.data()), nullptr);
    folder_ = path;
  }
  void TearDown() override {
    std::error_code ignored;
    if (!folder_.empty()) fs::remove_all(folder_, ignored);
  }

  // Arguments are given to the shell.
  Result Run(const std::string& arguments) {
    const std::string command = "'" STRATA_REPLAY_BINARY "' " + arguments + " >'" +
                                (folder_ / "out").string() + "' 2>'" + (folder_ / "err").string() +
                                "' </dev/null";
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, ReadFile(folder_ / "out"),
            ReadFile(folder_ / "err")};
  }
  Result Replay(const std::string& arguments) {
    return Run("--model '" + model_ + "' --replay '" + (folder_ / "rows.jsonl").string() + "' " +
               arguments);
  }
  json ReplayJson(const std::string& arguments) {
    const Result result = Replay(arguments + " --json");
    EXPECT_EQ(result.exit, 0) << result.err;
    const json parsed = json::parse(result.out, nullptr, false);
    return parsed.is_object() ? parsed : json::object();
  }
  void WriteRows(const std::string& text) {
    std::ofstream(folder_ / "rows.jsonl", std::ios::binary) << text;
  }
  // Rows whose texts are made of the same few phrases, so that drafts are sometimes right.
  void WritePhrases() {
    std::mt19937 random(5);
    std::ostringstream text;
    for (int i = 0; i < 12; ++i) {
      json row = {{"category", i % 3 == 0 ? "math" : "qa"}};
      for (const char* member : {"prompt_tokens", "output_tokens"}) {
        row[member] = json::array();
        for (int phrase = 0; phrase < 12; ++phrase) {
          const int begin = 100 + 10 * static_cast<int>(random() % 6);
          for (int k = 0; k < 5; ++k) row[member].push_back(begin + k);
        }
      }
      text << row.dump() << "\n";
    }
    WriteRows(text.str());
  }

  std::string model_;
  fs::path folder_;
};

// What must not depend on where the drafter runs.
json Figures(const json& report) {
  json figures;
  for (const char* name :
       {"rows", "steps", "emitted", "drafted", "categories", "tiers", "accepted_by_position"}) {
    figures[name] = report.value(name, json());
  }
  return figures;
}

TEST_F(ReplayCli, RemoteDraftsAsInProcess) {
  WritePhrases();
  for (const std::string options :
       {"--budget 8 --policy locality", "--budget 16 --policy calibrated",
        "--budget 8 --policy calibrated --batch 4"}) {
    // Of its own each time: the model tier starts empty.
    const DraftProcess service(folder_);
    const json local = ReplayJson(options);
    const json remote = ReplayJson(options + " --remote " + service.address());
    EXPECT_EQ(Figures(local), Figures(remote)) << options;
    EXPECT_EQ(local["rows"], 12);
    EXPECT_EQ(local["emitted"], 12 * 59);
    EXPECT_GT(local.value("tokens_per_step", 0.0), 2) << options;
    EXPECT_FALSE(local.contains("rpc_us"));
    EXPECT_GT(remote["rpc_us"]["p50"], 0);
    EXPECT_EQ(remote["draft_us"]["count"], remote["rpc_us"]["count"]);
    fs::remove(folder_ / "port");
  }
}

TEST_F(ReplayCli, WithoutTiersNothingIsDrafted) {
  WritePhrases();
  const json nothing = ReplayJson("--tiers predicted --budget 8");
  EXPECT_EQ(nothing["drafted"], 0);
  EXPECT_EQ(nothing["tokens_per_step"], 1);
  const json context = ReplayJson("--tiers context --budget 8");
  EXPECT_GT(context["tiers"]["context"]["accepted"], 0);
  EXPECT_EQ(context["tiers"]["model"]["drafted"], 0);
  const json model = ReplayJson("--tiers model --budget 8");
  EXPECT_GT(model["tiers"]["model"]["accepted"], 0);
  EXPECT_EQ(model["tiers"]["context"]["drafted"], 0);
}

TEST_F(ReplayCli, AWarmModelTierDraftsBetter) {
  WritePhrases();
  const std::string options =
      "--tiers model --budget 8 --model-tier-dir '" + (folder_ / "tiers").string() + "'";
  const json cold = ReplayJson(options);
  const json warm = ReplayJson(options);
  EXPECT_GT(warm["tokens_per_step"], cold["tokens_per_step"]);
}

TEST_F(ReplayCli, SaysWhatIsWrongInOneSentence) {
  WritePhrases();
  const std::string row = R"({"category": "qa", "prompt_tokens": [1], "output_tokens": [1]})";
  const auto expect = [&](const Result& result, const std::string& what) {
    EXPECT_EQ(result.exit, 1);
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, HasSubstr(what));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  };
  expect(Run("--model '" + model_ + "' --replay /no/such/file"), "/no/such/file");
  expect(Run("--model /no/such/folder --replay '" + (folder_ / "rows.jsonl").string() + "'"),
         "/no/such/folder");
  expect(Replay("--corpus /no/such/corpus"), "/no/such/corpus");
  expect(Replay("--remote 127.0.0.1:1"), "no draft service answers at 127.0.0.1:1");
  WriteRows(row + "\n{\n");
  expect(Replay(""), "rows.jsonl line 2: it is not JSON");
  WriteRows(R"({"category": "qa", "prompt_tokens": [99999999], "output_tokens": [1]})");
  expect(Replay(""), "line 1: prompt_tokens[0] is 99999999, outside the model's vocabulary");
}

TEST_F(ReplayCli, RefusesACorpusOfAnotherTokenizer) {
  const char* other = std::getenv("STRATA_TEST_MODEL_QWEN2");
  ASSERT_NE(other, nullptr) << "STRATA_TEST_MODEL_QWEN2 must name a folder with tokenizer.json";
  WritePhrases();
  std::ofstream(folder_ / "text.txt") << "one two three one two three one two four\n";
  const std::string build = "'" STRATA_CORPUS_BINARY "' build --tokenizer '" + std::string(other) +
                            "' --out '" + (folder_ / "corpus").string() + "' '" +
                            (folder_ / "text.txt").string() + "' >/dev/null 2>&1";
  ASSERT_EQ(std::system(build.c_str()), 0);
  const Result result = Replay("--corpus '" + (folder_ / "corpus").string() + "'");
  EXPECT_EQ(result.exit, 1);
  EXPECT_THAT(result.err, HasSubstr("the tokenizer of " + model_));
  EXPECT_THAT(result.err, HasSubstr("is not the one of " + (folder_ / "corpus").string()));
  // Unused, it does no harm.
  EXPECT_EQ(Replay("--tiers context --corpus '" + (folder_ / "corpus").string() + "'").exit, 0);
}

TEST_F(ReplayCli, LeavesOutWhatIsNotWorthIt) {
  WritePhrases();
  const json all = ReplayJson("--budget 16 --min-path-probability 0");
  const json likely = ReplayJson("--budget 16 --min-path-probability 0.3");
  EXPECT_LT(likely["drafted"], all["drafted"]);
  EXPECT_GT(likely["drafted"], 0);
}

TEST_F(ReplayCli, RefusesAWrongCommandLine) {
  WritePhrases();
  EXPECT_EQ(Run("").exit, 2);
  EXPECT_EQ(Replay("--policy best").exit, 2);
  EXPECT_EQ(Replay("--tiers corpus").exit, 2);
  EXPECT_EQ(Replay("--tiers context,disk").exit, 2);
  EXPECT_EQ(Replay("--batch 0").exit, 2);
  EXPECT_EQ(Replay("--remote 127.0.0.1:1 --tiers context").exit, 2);
  EXPECT_EQ(Run("--help").exit, 0);
}

TEST_F(ReplayCli, TreesAreWrittenAsTheyWerePlayed) {
  WritePhrases();
  const std::string trees = (folder_ / "trees.json").string();
  const json report = ReplayJson("--budget 8 --batch 3 --trees '" + trees + "'");
  const json written = json::parse(ReadFile(trees), nullptr, false);
  ASSERT_TRUE(written.is_object());
  ASSERT_EQ(written["rows"].size(), 12u);
  size_t steps = 0, drafted = 0, accepted = 0;
  for (const json& row : written["rows"]) {
    EXPECT_EQ(row["prompt_tokens"], 60);
    steps += row["steps"].size();
    for (const json& step : row["steps"]) {
      drafted += step[0].size();
      accepted += step[1].size();
      int parent = -1;
      for (const int node : step[1]) {
        ASSERT_LT(node, static_cast<int>(step[0].size()));
        EXPECT_EQ(step[0][node], parent);
        parent = node;
      }
    }
  }
  EXPECT_EQ(report["steps"], steps);
  EXPECT_EQ(report["drafted"], drafted);
  // Each step emits one token more than it accepts, but the last of an answer may not.
  const size_t emitted = report["emitted"];
  EXPECT_LE(emitted, accepted + steps);
  EXPECT_GE(emitted, accepted + steps - 12);
  EXPECT_GT(accepted, 0u);

  const Result refused = Replay("--budget 8 --trees /nowhere/trees.json");
  EXPECT_EQ(refused.exit, 1);
  EXPECT_NE(refused.err.find("cannot write /nowhere/trees.json"), std::string::npos) << refused.err;
}

}  // namespace
}  // namespace strata::replay
