#include "services/verify/scheduler/step_cost.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "tests/verify/fake_engine.h"

namespace strata::verify {
namespace {

// A machine whose steps cost 5 ms and 0.3 ms a row beyond the eighth.
double TrueSeconds(int64_t rows) { return 5e-3 + 0.3e-3 * std::max<int64_t>(0, rows - 8); }

TEST(StepCost, KnowsNothingAtFirst) {
  StepCost cost;
  EXPECT_FALSE(cost.known());
  EXPECT_EQ(cost.Estimate(7, 100), 0);
  cost.Learn(4, 0, 0.01);
  EXPECT_FALSE(cost.known());
  EXPECT_DOUBLE_EQ(cost.Estimate(400, 0), 0.01);
  cost.Learn(0, 0, 0.01);
  cost.Learn(9, 0, 0);
  cost.Learn(9, 0, std::nan(""));
  EXPECT_FALSE(cost.known());
  cost.Learn(9, 0, 0.01);
  EXPECT_TRUE(cost.known());
}

TEST(StepCost, GoesThroughThePointsAndOn) {
  StepCost cost;
  for (int64_t rows = 1; rows <= 64; rows += std::max<int64_t>(1, rows / 2)) {
    cost.Learn(rows, 0, TrueSeconds(rows));
  }
  for (int64_t rows = 1; rows <= 500; ++rows) {
    EXPECT_NEAR(cost.Estimate(rows, 0), TrueSeconds(rows), 0.1 * TrueSeconds(rows)) << rows;
    EXPECT_GE(cost.Estimate(rows + 1, 0), cost.Estimate(rows, 0)) << rows;
  }
}

// As on a GPU: a block of 32 rows, then one of 64, 128 and so on, each 1 ms longer. Only steps of
// 32 rows are run; that one more costs a block must not be lost in them.
TEST(StepCost, KnowsWhereABlockBegins) {
  const auto seconds = [](int64_t rows) {
    double taken = 5e-3;
    for (int64_t block = 32; block < rows; block *= 2) taken += 1e-3;
    return taken;
  };
  StepCost cost;
  for (int64_t power = 1; power <= 256; power *= 2) {
    cost.Learn(power, 0, seconds(power));
    cost.Learn(power + 1, 0, seconds(power + 1));
  }
  for (int i = 0; i < 500; ++i) cost.Learn(32, 0, seconds(32));
  EXPECT_NEAR(cost.Estimate(32, 0), 5e-3, 1e-5);
  EXPECT_NEAR(cost.Estimate(33, 0), 6e-3, 1e-5);
  EXPECT_NEAR(cost.Estimate(64, 0), 6e-3, 1e-5);
  EXPECT_NEAR(cost.Estimate(65, 0), 7e-3, 1e-5);
  EXPECT_NEAR(cost.Estimate(100, 0), 7e-3, 1e-5);
  EXPECT_NEAR(cost.Estimate(129, 0), 8e-3, 1e-5);
  // Nobody knows what comes behind the last; neither nothing nor a block a row.
  EXPECT_GT(cost.Estimate(512, 0), 9e-3);
  EXPECT_LT(cost.Estimate(512, 0), 15e-3);
}

// As when another process had the core while that size was measured.
TEST(StepCost, APointThatIsTooHighDoesNotRaiseThoseBehindIt) {
  StepCost cost;
  for (int64_t rows = 1; rows <= 64; ++rows) {
    cost.Learn(rows, 0, rows == 3 ? 2 * TrueSeconds(3) : TrueSeconds(rows));
  }
  for (int64_t rows = 8; rows <= 64; ++rows) {
    EXPECT_NEAR(cost.Estimate(rows, 0), TrueSeconds(rows), 0.2 * TrueSeconds(rows)) << rows;
  }
  // Steps of a size that is run tell what smaller ones cost at most.
  for (int i = 0; i < 500; ++i) cost.Learn(8, 0, TrueSeconds(8));
  EXPECT_NEAR(cost.Estimate(3, 0), TrueSeconds(3), 0.05 * TrueSeconds(3));
}

TEST(StepCost, ContextCostsExtra) {
  StepCost cost;
  cost.set_pair_seconds(1e-6);
  cost.Learn(1, 1000, 5e-3 + 1e-3);
  cost.Learn(16, 16000, 5e-3 + 16e-3);
  EXPECT_NEAR(cost.Estimate(1, 0), 5e-3, 1e-6);
  EXPECT_NEAR(cost.Estimate(16, 0), 5e-3, 1e-6);
  EXPECT_NEAR(cost.Estimate(16, 16 * 500), 5e-3 + 8e-3, 1e-6);
}

// Everything gets twice as slow, while steps of one size alone are run: what a row costs in
// proportion must not change.
TEST(StepCost, ASlowerMachineIsNotThePriceOfRows) {
  StepCost cost;
  for (int64_t rows = 1; rows <= 64; rows *= 2) cost.Learn(rows, 0, TrueSeconds(rows));
  const double before = cost.Estimate(32, 0) / cost.Estimate(1, 0);
  for (int i = 0; i < 100; ++i) cost.Learn(8, 0, 2 * TrueSeconds(8));
  EXPECT_NEAR(cost.Estimate(8, 0), 2 * TrueSeconds(8), 0.1 * TrueSeconds(8));
  EXPECT_NEAR(cost.Estimate(32, 0) / cost.Estimate(1, 0), before, 0.15 * before);
}

TEST(StepCost, LearnsThroughNoiseAndStalls) {
  StepCost cost;
  for (int64_t rows = 1; rows <= 64; rows *= 2) cost.Learn(rows, 0, 1e-3);  // a wrong start
  std::mt19937 random(1);
  std::lognormal_distribution<double> noise(0, 0.1);
  for (int i = 0; i < 20000; ++i) {
    const int64_t rows = 1 + static_cast<int64_t>(random() % 64);
    const double stall = random() % 50 == 0 ? 0.1 : 0;  // another process has the core
    cost.Learn(rows, 0, TrueSeconds(rows) * noise(random) + stall);
  }
  for (const int64_t rows : {1, 4, 8, 16, 32, 64}) {
    EXPECT_NEAR(cost.Estimate(rows, 0), TrueSeconds(rows), 0.2 * TrueSeconds(rows)) << rows;
  }
}

TEST(MeasureStepCost, LeavesTheEngineAsItWas) {
  for (const int64_t pages : {1, 3, 1000}) {
    FakeEngine engine(pages);
    StepCost cost;
    const engine::Status status = MeasureStepCost(engine, 64, cost);
    EXPECT_TRUE(status.ok()) << status.message();
    EXPECT_TRUE(cost.known());
    EXPECT_EQ(engine.kv_pages_free(), pages);
    for (const int64_t most : {1, 2, 3, 48}) {
      EXPECT_TRUE(MeasureStepCost(engine, most, cost).ok());
    }
  }
}

// Its steps take next to no time: all sizes are measured, whatever was asked for.
TEST(MeasureStepCost, MeasuresMoreWhereStepsAreQuick) {
  FakeEngine engine(1000);
  StepCost cost;
  ASSERT_TRUE(MeasureStepCost(engine, 4, cost).ok());
  EXPECT_GE(engine.most_logit_rows(), 65u);
}

}  // namespace
}  // namespace strata::verify
