#include "tests/bench/replay/rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "common/base/shuffle.h"

namespace strata::replay {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

absl::StatusOr<std::vector<Row>> Read(const std::string& text) {
  std::istringstream in(text);
  return ReadRows(in, "rows.jsonl", /*vocab_size=*/100);
}

constexpr char kGood[] = R"({"category": "qa", "prompt_tokens": [1, 99], "output_tokens": [3]})";

TEST(ReadRows, ReadsWhatIsThere) {
  const auto rows = Read(std::string(kGood) + "\n\n" +
                         R"({"category": "rag", "prompt_tokens": [0], "output_tokens": [],)"
                         R"( "predicted_tokens": [4, 5], "turn": 1})"
                         "\r\n" +
                         R"({"category": "x", "prompt_tokens": [0], "output_tokens": [1, 2, 3],)"
                         R"( "top": [[1, 2, 3, 4, 5, 6, 7, 8], []]})");
  ASSERT_TRUE(rows.ok()) << rows.status();
  ASSERT_THAT(*rows, SizeIs(3));
  EXPECT_EQ((*rows)[0].category, "qa");
  EXPECT_THAT((*rows)[0].prompt, ElementsAre(1, 99));
  EXPECT_THAT((*rows)[0].output, ElementsAre(3));
  EXPECT_THAT((*rows)[0].predicted, IsEmpty());
  EXPECT_THAT((*rows)[1].output, IsEmpty());
  EXPECT_THAT((*rows)[1].predicted, ElementsAre(4, 5));
  ASSERT_THAT((*rows)[2].rankings, SizeIs(2));
  EXPECT_THAT((*rows)[2].rankings[0], SizeIs(8));
}

TEST(ReadRows, NamesTheLineAndTheFault) {
  const std::vector<std::pair<std::string, std::string>> faults = {
      {"{", "it is not JSON"},
      {"[1]", "it is not a JSON object"},
      {R"({"prompt_tokens": [1], "output_tokens": [1]})", "no category"},
      {R"({"category": 1, "prompt_tokens": [1], "output_tokens": [1]})", "no category"},
      {R"({"category": "a", "output_tokens": [1]})", "there is no prompt_tokens"},
      {R"({"category": "a", "prompt_tokens": [1]})", "there is no output_tokens"},
      {R"({"category": "a", "prompt_tokens": [], "output_tokens": [1]})", "prompt_tokens is empty"},
      {R"({"category": "a", "prompt_tokens": 1, "output_tokens": [1]})", "is not a list"},
      {R"({"category": "a", "prompt_tokens": [1], "output_tokens": [1, "b"]})",
       "output_tokens[1] is no token id, but string"},
      {R"({"category": "a", "prompt_tokens": [1], "output_tokens": [1.5]})", "but number"},
      {R"({"category": "a", "prompt_tokens": [100], "output_tokens": [1]})",
       "prompt_tokens[0] is 100, outside the model's vocabulary of 100 tokens"},
      {R"({"category": "a", "prompt_tokens": [-1], "output_tokens": [1]})", "is -1, outside"},
      {R"({"category": "a", "prompt_tokens": [18446744073709551615], "output_tokens": [1]})",
       "is 18446744073709551615, outside"},
      {R"({"category": "a", "prompt_tokens": [1], "output_tokens": [1], "top": [[1], [2]]})",
       "top has 2 rankings for 1 output_tokens"},
      {R"({"category": "a", "prompt_tokens": [1], "output_tokens": [1], "top": [[1,1,1,1,1,1,1,1,1]]})",
       "top[0] has 9 tokens, at most 8"},
      {R"({"category": "a", "prompt_tokens": [1], "output_tokens": [1], "predicted_tokens": [777]})",
       "predicted_tokens[0] is 777"},
  };
  for (const auto& [line, fault] : faults) {
    const auto rows = Read(std::string(kGood) + "\n\n" + line + "\n" + kGood);
    ASSERT_FALSE(rows.ok()) << line;
    EXPECT_EQ(rows.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(rows.status().message(), HasSubstr("rows.jsonl line 3: ")) << line;
    EXPECT_THAT(rows.status().message(), HasSubstr(fault)) << line;
  }
}

TEST(ReadRows, RefusesAFileWithoutRows) {
  EXPECT_THAT(Read("\n \n").status().message(), HasSubstr("rows.jsonl has no rows"));
}

TEST(LoadRows, NamesAMissingFileAndAFolder) {
  const auto missing = LoadRows("/no/such/file", 10);
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(missing.status().message(), HasSubstr("/no/such/file"));
  EXPECT_THAT(LoadRows("/", 10).status().message(), HasSubstr("is a folder"));
}

TEST(Shuffle, DependsOnTheSeedAloneAndLosesNothing) {
  const auto shuffled = [](uint64_t seed) {
    std::vector<Row> rows(20);
    for (size_t i = 0; i < rows.size(); ++i) rows[i].category = std::to_string(i);
    Shuffle(seed, rows);
    std::vector<std::string> names;
    for (const Row& row : rows) names.push_back(row.category);
    return names;
  };
  const auto one = shuffled(1);
  EXPECT_EQ(one, shuffled(1));
  EXPECT_NE(one, shuffled(2));
  auto sorted_one = one, sorted_two = shuffled(2);
  std::sort(sorted_one.begin(), sorted_one.end());
  std::sort(sorted_two.begin(), sorted_two.end());
  EXPECT_EQ(sorted_one, sorted_two);
}

}  // namespace
}  // namespace strata::replay
