#include "services/client/load/summary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <span>
#include <utility>
#include <vector>

namespace strata::client::load {
namespace {

using testing::ElementsAre;
using testing::Pair;

Record Answered(double due, double sent, std::vector<Chunk> chunks) {
  Record record;
  record.due = due;
  record.sent = sent;
  record.done = chunks.back().at;
  record.outcome.chunks = std::move(chunks);
  return record;
}

Record Failed(absl::Status status) {
  Record record;
  record.done = 1;
  record.outcome.status = std::move(status);
  return record;
}

Summary SummarizeOne(const LoadRun& run) { return Summarize(std::span(&run, 1)); }

TEST(Summarize, CountsFromWhenARequestWasDue) {
  // Due at 1, but the service stood still until 3.
  const Summary summary = SummarizeOne(
      {.records = {Answered(1, 1.5, {{3, 1}, {4, 3}, {6, 2}})}, .seconds = 6, .loaded_seconds = 4});
  EXPECT_EQ(summary.requests, 1u);
  EXPECT_EQ(summary.first_token.p50, 2);
  EXPECT_EQ(summary.latency.p50, 5);
  EXPECT_EQ(summary.send_lag.p50, 0.5);
  // 5 of the 6 tokens came after the first.
  EXPECT_EQ(summary.per_token.p50, 3.0 / 5);
  EXPECT_EQ(summary.tokens, 6u);
  EXPECT_EQ(summary.TokensPerSecond(), 1);
  // The last chunk came when the load had ended.
  EXPECT_EQ(summary.loaded_tokens, 4u);
  EXPECT_EQ(summary.LoadedTokensPerSecond(), 1);
}

TEST(Summarize, AnAnswerInOneChunkHasNoTimeATokenThatCouldBeSeen) {
  const Summary summary = SummarizeOne({.records = {Answered(0, 0, {{1, 4}})}, .seconds = 1});
  EXPECT_EQ(summary.tokens, 4u);
  EXPECT_EQ(summary.first_token.count, 1u);
  EXPECT_EQ(summary.per_token.count, 0u);
}

TEST(Summarize, FailuresAreCountedByNameAndFlatterNothing) {
  Record partial = Failed(absl::UnavailableError("gone"));
  partial.outcome.chunks = {{0.5, 10}};
  const Summary summary =
      SummarizeOne({.records = {std::move(partial), Answered(0, 0, {{2, 1}, {4, 1}}),
                                Failed(absl::ResourceExhaustedError("full")),
                                Failed(absl::UnavailableError("gone too"))},
                    .seconds = 4,
                    .loaded_seconds = 4});
  EXPECT_EQ(summary.requests, 4u);
  EXPECT_EQ(summary.failed, 3u);
  EXPECT_THAT(summary.failures, ElementsAre(Pair("RESOURCE_EXHAUSTED", 1), Pair("UNAVAILABLE", 2)));
  EXPECT_EQ(summary.first_failure, "UNAVAILABLE: gone");
  EXPECT_EQ(summary.tokens, 2u);
  EXPECT_EQ(summary.latency.count, 1u);
  EXPECT_EQ(summary.latency.max, 4);
}

TEST(Summarize, RoundsAreOneSample) {
  Record first = Answered(0, 0, {{1, 1}, {2, 1}});
  first.outcome.statistics.set_steps(3);
  first.outcome.statistics.set_draft_misses(1);
  first.outcome.statistics.set_verify_seconds(0.5);
  first.outcome.statistics.set_total_seconds(2);
  Record second = Answered(0, 0, {{2, 1}, {6, 3}});
  second.outcome.statistics.set_steps(1);
  second.outcome.statistics.set_draft_misses(2);
  second.outcome.statistics.set_prefill_seconds(1);
  second.outcome.statistics.set_draft_seconds(2);
  second.outcome.statistics.set_total_seconds(6);
  const std::vector<LoadRun> rounds = {{.records = {first}, .seconds = 2, .loaded_seconds = 1},
                                       {.records = {second}, .seconds = 6, .loaded_seconds = 5}};
  const Summary summary = Summarize(rounds);
  EXPECT_EQ(summary.requests, 2u);
  EXPECT_EQ(summary.TokensPerSecond(), 6.0 / 8);
  // Each round has its own end of the load: 1 and 1 token came before it.
  EXPECT_EQ(summary.loaded_tokens, 2u);
  EXPECT_EQ(summary.loaded_seconds, 6);
  EXPECT_EQ(summary.latency.p50, 2);
  EXPECT_EQ(summary.latency.max, 6);
  EXPECT_EQ(summary.steps, 4u);
  EXPECT_EQ(summary.draft_misses, 3u);
  EXPECT_EQ(summary.prefill_seconds, 1);
  EXPECT_EQ(summary.draft_seconds, 2);
  EXPECT_EQ(summary.verify_seconds, 0.5);
  EXPECT_EQ(summary.total_seconds, 8);
}

TEST(Summarize, Nothing) {
  EXPECT_EQ(Summarize({}).requests, 0u);
  EXPECT_EQ(Summarize({}).TokensPerSecond(), 0);
}

TEST(Compare, OneModeOverAnother) {
  const Summary slow = SummarizeOne(
      {.records = {Answered(0, 0, {{1, 1}, {5, 1}})}, .seconds = 5, .loaded_seconds = 5});
  const Summary fast = SummarizeOne(
      {.records = {Answered(0, 0, {{1, 1}, {2, 1}})}, .seconds = 2, .loaded_seconds = 2});
  const Ratios ratios = Compare(fast, slow);
  EXPECT_DOUBLE_EQ(*ratios.tokens_per_second, 2.5);
  EXPECT_DOUBLE_EQ(*ratios.loaded_tokens_per_second, 2.5);
  EXPECT_DOUBLE_EQ(*ratios.per_token_p95, 0.25);
}

TEST(Compare, WhatWasNotMeasuredHasNoRatio) {
  const Summary measured = SummarizeOne(
      {.records = {Answered(0, 0, {{1, 1}, {5, 1}})}, .seconds = 5, .loaded_seconds = 5});
  const Summary failed = SummarizeOne({.records = {Failed(absl::UnavailableError(""))}});
  for (const Ratios& ratios : {Compare(measured, failed), Compare(failed, measured)}) {
    EXPECT_FALSE(ratios.tokens_per_second.has_value());
    EXPECT_FALSE(ratios.loaded_tokens_per_second.has_value());
    EXPECT_FALSE(ratios.per_token_p95.has_value());
  }
}

}  // namespace
}  // namespace strata::client::load
