#include "tests/bench/draft/service_process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

extern char** environ;

namespace strata::draft_bench {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::milliseconds kLookInterval(10);
constexpr int kLooks = 3000;
constexpr size_t kLogEnd = 1000;

}  // namespace

absl::StatusOr<std::unique_ptr<ServiceProcess>> ServiceProcess::Start(
    const std::string& binary, std::vector<std::string> flags) {
  std::string folder = (fs::temp_directory_path() / "strata-bench-XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) {
    return absl::UnavailableError(absl::StrCat("cannot make a folder like ", folder));
  }
  for (std::string& flag : flags) absl::StrReplaceAll({{kFolder, folder}}, &flag);
  std::unique_ptr<ServiceProcess> process(new ServiceProcess(folder));
  absl::Status status = process->Spawn(binary, flags);
  if (status.ok()) status = process->AwaitAddress();
  if (!status.ok()) return status;
  return process;
}

absl::Status ServiceProcess::Spawn(const std::string& binary,
                                   const std::vector<std::string>& flags) {
  std::vector<std::string> words = {binary, "--listen=127.0.0.1:0",
                                    absl::StrCat("--port-file=", (folder_ / "port").string())};
  words.insert(words.end(), flags.begin(), flags.end());
  std::vector<char*> arguments;
  arguments.reserve(words.size() + 1);
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 1, (folder_ / "log").c_str(), O_WRONLY | O_CREAT,
                                   0600);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  const int error =
      posix_spawn(&pid_, binary.c_str(), &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error == 0) return absl::OkStatus();
  pid_ = -1;
  return absl::NotFoundError(absl::StrCat("cannot start ", binary, ": ", strerror(error)));
}

absl::Status ServiceProcess::AwaitAddress() {
  for (int i = 0; i < kLooks; ++i) {
    if (std::ifstream(folder_ / "port") >> address_) return absl::OkStatus();
    if (waitpid(pid_, nullptr, WNOHANG) == pid_) {
      pid_ = -1;
      return absl::UnavailableError(absl::StrCat("the draft service ended: ", LogEnd()));
    }
    std::this_thread::sleep_for(kLookInterval);
  }
  return absl::DeadlineExceededError(absl::StrCat("the draft service does not serve: ", LogEnd()));
}

std::string ServiceProcess::LogEnd() const {
  std::ostringstream text;
  text << std::ifstream(folder_ / "log", std::ios::binary).rdbuf();
  std::string log = text.str();
  if (log.size() > kLogEnd) log.erase(0, log.size() - kLogEnd);
  return log;
}

uint64_t ServiceProcess::RssBytes() const {
  std::ifstream in(absl::StrCat("/proc/", pid_, "/statm"));
  uint64_t size = 0, resident = 0;
  in >> size >> resident;
  return resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

absl::Status ServiceProcess::Stop() {
  if (pid_ <= 0) return absl::OkStatus();
  kill(pid_, SIGTERM);
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = -1;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("the draft service ended with the wait status ", status, ": ", LogEnd()));
}

ServiceProcess::~ServiceProcess() {
  Stop().IgnoreError();
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

std::string DefaultServiceBinary() {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  return (self.parent_path() / "strata-draft").string();
}

}  // namespace strata::draft_bench
