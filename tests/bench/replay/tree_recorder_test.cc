#include "tests/bench/replay/tree_recorder.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

namespace strata::replay {
namespace {

DraftTree Tree(std::vector<int32_t> parents) {
  DraftTree tree;
  tree.parents = std::move(parents);
  return tree;
}

TEST(TreeRecorderTest, RowsOfABatchAreKeptApart) {
  std::vector<Row> rows(2);
  rows[0].prompt = {1, 2, 3};
  rows[1].prompt = {4};
  TreeRecorder recorder;
  recorder.Add(rows[1], Tree({-1, 0}), std::vector<int32_t>{0, 1});
  recorder.Add(rows[0], Tree({}), {});
  recorder.Add(rows[1], Tree({-1, -1}), std::vector<int32_t>{1});
  const std::string path = ::testing::TempDir() + "/tree_recorder_test.json";
  ASSERT_TRUE(recorder.Write(path).ok());
  std::ifstream file(path);
  EXPECT_EQ(nlohmann::json::parse(file), nlohmann::json::parse(R"({"rows": [
    {"prompt_tokens": 1, "steps": [[[-1, 0], [0, 1]], [[-1, -1], [1]]]},
    {"prompt_tokens": 3, "steps": [[[], []]]}]})"));
  std::remove(path.c_str());
}

TEST(TreeRecorderTest, AFileThatCannotBeWrittenIsNamed) {
  const absl::Status status = TreeRecorder().Write("/nowhere/trees.json");
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(status.message(), "cannot write /nowhere/trees.json");
}

}  // namespace
}  // namespace strata::replay
