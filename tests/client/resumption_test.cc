#include "services/client/resumption.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace strata::client {
namespace {

v1::GenerateResponse Message(const std::vector<uint32_t>& ids, const std::string& text) {
  v1::GenerateResponse message;
  for (const uint32_t id : ids) {
    message.add_token_ids(id);
    message.add_logprobs()->set_id(id);
  }
  message.set_text(text);
  return message;
}

// What `resumption` leaves of the message: "1,2 text".
std::string Left(Resumption& resumption, const std::vector<uint32_t>& ids,
                 const std::string& text) {
  v1::GenerateResponse message = Message(ids, text);
  const absl::Status status = resumption.Take(message);
  if (!status.ok()) return status.ToString();
  EXPECT_EQ(message.logprobs_size(), message.token_ids_size());
  std::string left;
  for (int i = 0; i < message.token_ids_size(); ++i) {
    EXPECT_EQ(message.logprobs(i).id(), message.token_ids(i));
    left += std::to_string(message.token_ids(i)) + ",";
  }
  return left + " " + message.text();
}

TEST(ResumptionTest, AFirstStreamPassesAsItIs) {
  Resumption resumption;
  EXPECT_EQ(Left(resumption, {1, 2}, "ab"), "1,2, ab");
  EXPECT_EQ(Left(resumption, {}, ""), " ");
  EXPECT_EQ(Left(resumption, {3}, "c"), "3, c");
  EXPECT_TRUE(resumption.CheckWhole().ok());
}

TEST(ResumptionTest, WhatIsThereIsLeftOutHoweverTheStreamIsCut) {
  Resumption resumption;
  EXPECT_EQ(Left(resumption, {1, 2, 3}, "abc"), "1,2,3, abc");
  resumption.Restart();
  EXPECT_EQ(Left(resumption, {1}, ""), " ");
  EXPECT_FALSE(resumption.CheckWhole().ok());
  // The text lags behind the tokens where it may become a stop string.
  EXPECT_EQ(Left(resumption, {2, 3, 4, 5}, "ab"), "4,5, ");
  EXPECT_EQ(Left(resumption, {6}, "cdef"), "6, def");
  resumption.Restart();
  EXPECT_EQ(Left(resumption, {1, 2, 3, 4, 5, 6, 7}, "abcdefg"), "7, g");
  EXPECT_TRUE(resumption.CheckWhole().ok());
}

TEST(ResumptionTest, MessagesWithoutLogprobsStayWithout) {
  Resumption resumption;
  EXPECT_EQ(Left(resumption, {1, 2}, "ab"), "1,2, ab");
  resumption.Restart();
  v1::GenerateResponse message = Message({1, 2, 3}, "abc");
  message.clear_logprobs();
  ASSERT_TRUE(resumption.Take(message).ok());
  EXPECT_EQ(message.token_ids_size(), 1);
  EXPECT_EQ(message.logprobs_size(), 0);
}

TEST(ResumptionTest, AnotherTokenIsAnError) {
  Resumption resumption;
  Left(resumption, {1, 2, 3}, "abc");
  resumption.Restart();
  v1::GenerateResponse message = Message({1, 2, 4}, "abd");
  const absl::Status status = resumption.Take(message);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(status.message().find("token 4 where it had given 3 (token 2"), std::string::npos)
      << status;
}

TEST(ResumptionTest, AnotherTextIsAnError) {
  Resumption resumption;
  Left(resumption, {1, 2}, "ab");
  resumption.Restart();
  v1::GenerateResponse message = Message({1, 2}, "ax");
  EXPECT_EQ(resumption.Take(message).code(), absl::StatusCode::kDataLoss);
}

TEST(ResumptionTest, AShorterAnswerIsAnError) {
  Resumption resumption;
  Left(resumption, {1, 2}, "ab");
  resumption.Restart();
  Left(resumption, {1}, "a");
  EXPECT_EQ(resumption.CheckWhole().code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace strata::client
