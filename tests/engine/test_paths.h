#ifndef STRATA_TESTS_ENGINE_TEST_PATHS_H_
#define STRATA_TESTS_ENGINE_TEST_PATHS_H_

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace strata::testing {

// The value of an environment variable that tests/run.sh sets. A test without it
// fails: a skipped proof would look like a passed one.
inline std::string RequiredEnv(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') {
    ADD_FAILURE() << name << " is not set; run the tests by tests/run.sh";
    return "";
  }
  return value;
}

// Where the tests of a whole engine run: "cpu" unless STRATA_TEST_DEVICE says otherwise ("cuda",
// "cuda:N"), so that the same tests prove a GPU where there is one.
inline std::string TestDevice() {
  const char* value = std::getenv("STRATA_TEST_DEVICE");
  return value == nullptr || *value == '\0' ? "cpu" : value;
}

// A fresh folder, removed at the end.
class TempDir {
 public:
  TempDir() {
    std::string name = (std::filesystem::temp_directory_path() / "strata-XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~TempDir() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace strata::testing

#endif  // STRATA_TESTS_ENGINE_TEST_PATHS_H_
