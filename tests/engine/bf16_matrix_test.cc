#include "services/verify/engine/bf16_matrix.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "services/verify/engine/linear.h"

namespace strata::engine {
namespace {

struct Shape {
  int64_t out;
  int64_t in;
};
// Whole panels, a part of one, less than one; inputs that are no multiple of anything.
constexpr Shape kShapes[] = {{64, 48}, {100, 33}, {5, 16}, {17, 1}, {4096, 576}};

at::TensorOptions Bf16Options() { return at::TensorOptions().dtype(at::kBFloat16); }

bool SameBits(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.contiguous(), y = b.contiguous();
  return x.nbytes() == y.nbytes() &&
         (x.nbytes() == 0 || std::memcmp(x.data_ptr(), y.data_ptr(), x.nbytes()) == 0);
}

// Each way that this CPU has.
class Bf16MatrixTest : public testing::TestWithParam<Bf16Product> {};
INSTANTIATE_TEST_SUITE_P(Products, Bf16MatrixTest, testing::ValuesIn(AllBf16Products()));

TEST_P(Bf16MatrixTest, IsTheProductRoundedOnce) {
  at::manual_seed(1);
  for (const auto& [out, in] : kShapes) {
    const at::Tensor weight = at::randn({out, in}, Bf16Options());
    const at::Tensor bias = at::randn({out});
    const Bf16Matrix matrix(weight, GetParam());
    for (const int64_t rows : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 64}) {
      const at::Tensor x = at::randn({rows, in}, Bf16Options());
      const at::Tensor exact = at::linear(x.to(at::kDouble), weight.to(at::kDouble));
      for (const bool with_bias : {false, true}) {
        const at::Tensor y = matrix.Multiply(x, with_bias ? bias.data_ptr<float>() : nullptr);
        ASSERT_EQ(y.scalar_type(), at::kBFloat16);
        const at::Tensor expected = with_bias ? exact + bias.to(at::kDouble) : exact;
        // Half a unit in the last of 8 bits, and the rounding of the sums in fp32.
        const at::Tensor most = expected.abs() / 256 + 1e-5 * static_cast<double>(in);
        EXPECT_TRUE(((y.to(at::kDouble) - expected).abs() <= most).all().item<bool>())
            << out << " x " << in << ", " << rows << " rows, bias " << with_bias;
      }
    }
  }
}

// A gate that is not in the place of what it is for would show in most elements.
TEST_P(Bf16MatrixTest, AGatedOneIsSiluOfItsFirstHalfTimesItsSecond) {
  at::manual_seed(6);
  for (const auto& [out, in] : {Shape{32, 16}, Shape{96, 33}, Shape{3072, 576}}) {
    const at::Tensor weight = at::randn({out, in}, Bf16Options());
    const at::Tensor bias = at::randn({out});
    const Bf16Matrix plain(weight, GetParam());
    const Bf16Matrix gated(weight, GetParam(), /*gated=*/true);
    const at::Tensor all_rows = at::randn({40, in}, Bf16Options());
    for (const float* const b :
         {static_cast<const float*>(nullptr), bias.const_data_ptr<float>()}) {
      const at::Tensor all = gated.Multiply(all_rows, b);
      for (const int64_t rows : {0, 1, 5, 13, 16, 17, 33, 40}) {
        const at::Tensor x = all_rows.narrow(0, 0, rows);
        const at::Tensor sums = plain.Multiply(x, b);
        const at::Tensor y = gated.Multiply(x, b);
        ASSERT_EQ(y.sizes(), at::IntArrayRef({rows, out / 2}));
        const at::Tensor gate = sums.narrow(1, 0, out / 2).to(at::kDouble);
        const at::Tensor expected =
            gate * at::sigmoid(gate) * sums.narrow(1, out / 2, out / 2).to(at::kDouble);
        const at::Tensor most = expected.abs() / 256 + 1e-6;
        EXPECT_TRUE(((y.to(at::kDouble) - expected).abs() <= most).all().item<bool>())
            << out << " x " << in << ", " << rows << " rows, bias " << (b != nullptr);
        EXPECT_TRUE(SameBits(y, all.narrow(0, 0, rows))) << rows << " rows of " << out;
      }
    }
  }
}

TEST_P(Bf16MatrixTest, OfNoRowsIsEmpty) {
  const Bf16Matrix matrix(at::randn({64, 48}, Bf16Options()), GetParam());
  const at::Tensor y = matrix.Multiply(at::empty({0, 48}, Bf16Options()), nullptr);
  EXPECT_EQ(y.sizes(), at::IntArrayRef({0, 64}));
}

TEST_P(Bf16MatrixTest, ARowDoesNotDependOnTheOthers) {
  at::manual_seed(2);
  for (const auto& [out, in] : kShapes) {
    const Bf16Matrix matrix(at::randn({out, in}, Bf16Options()), GetParam());
    const at::Tensor x = at::randn({40, in}, Bf16Options());
    const at::Tensor all = matrix.Multiply(x, nullptr);
    for (int64_t rows = 1; rows < 40; ++rows) {
      const int64_t first = 7 * rows % (40 - rows);
      const at::Tensor some = matrix.Multiply(x.narrow(0, first, rows), nullptr);
      EXPECT_TRUE(SameBits(some, all.narrow(0, first, rows))) << rows << " rows of " << out;
    }
  }
}

// Zero times infinity is not zero.
TEST_P(Bf16MatrixTest, NorOnWhatIsNotFiniteInThem) {
  at::manual_seed(5);
  for (const auto& [out, in] : kShapes) {
    const Bf16Matrix matrix(at::randn({out, in}, Bf16Options()), GetParam());
    const at::Tensor x = at::randn({40, in}, Bf16Options());
    const at::Tensor all = matrix.Multiply(x, nullptr);
    for (const float beside : {INFINITY, NAN}) {
      at::Tensor others = at::full({40, in}, beside, Bf16Options());
      for (const int64_t row : {0, 15, 16, 31, 32, 39}) {
        others.select(0, row).copy_(x.select(0, row));
      }
      const at::Tensor some = matrix.Multiply(others, nullptr);
      for (const int64_t row : {0, 15, 16, 31, 32, 39}) {
        EXPECT_TRUE(SameBits(some.select(0, row), all.select(0, row))) << row << " of " << in;
      }
    }
  }
}

// Machines with AVX2 alone and with AVX-512 answer alike. (The last way has no fused operations.)
TEST(Bf16Matrix, AllWaysWithFusedOperationsGiveTheSameBits) {
  const std::vector<PanelProduct> products = PanelProduct::All();
  if (products.size() < 3) GTEST_SKIP() << "this CPU has fewer than two of them";
  at::manual_seed(4);
  for (const auto& [out, in] : kShapes) {
    const at::Tensor weight = at::randn({out, in}, Bf16Options());
    const at::Tensor x = at::randn({23, in}, Bf16Options());
    EXPECT_TRUE(SameBits(Bf16Matrix(weight, products[0]).Multiply(x, nullptr),
                         Bf16Matrix(weight, products[1]).Multiply(x, nullptr)))
        << out << " x " << in;
  }
}

// Whichever way this CPU has.
TEST(PackedLinear, IsRowInvariantAndRightInBf16) {
  at::manual_seed(3);
  const at::Tensor weight = at::randn({96, 64}, Bf16Options());
  const at::Tensor bias = at::randn({96}, Bf16Options());
  const PackedLinear linear(weight, bias, WeightType::kNative);
  EXPECT_TRUE(linear.CheckRowInvariance());
  const at::Tensor x = at::randn({9, 64}, Bf16Options());
  const at::Tensor exact =
      at::linear(x.to(at::kDouble), weight.to(at::kDouble), bias.to(at::kDouble));
  const at::Tensor most = exact.abs() / 128 + 1e-3;
  EXPECT_TRUE(((linear.Forward(x).to(at::kDouble) - exact).abs() <= most).all().item<bool>());
}

// However its weights are held.
TEST(PackedLinear, OfGatesIsRowInvariantAndRight) {
  at::manual_seed(7);
  const at::Tensor weight = at::randn({96, 64}) / 8;
  const at::Tensor bias = at::randn({96});
  const at::Tensor x = at::randn({9, 64});
  const at::Tensor sums = at::linear(x, weight, bias).to(at::kDouble);
  const at::Tensor gate = sums.narrow(1, 0, 48);
  const at::Tensor exact = gate * at::sigmoid(gate) * sums.narrow(1, 48, 48);
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    for (const WeightType held : {WeightType::kNative, WeightType::kInt8}) {
      const PackedLinear linear(weight.to(type), bias.to(type), held, Activation::kSiluGate);
      EXPECT_TRUE(linear.CheckRowInvariance());
      EXPECT_EQ(linear.out_features(), 96);
      EXPECT_EQ(linear.width(), 48);
      const at::Tensor y = linear.Forward(x.to(type));
      ASSERT_EQ(y.sizes(), at::IntArrayRef({9, 48}));
      EXPECT_EQ(y.scalar_type(), type);
      // As coarse as rows and weights are.
      const double part = held == WeightType::kInt8 ? 0.1 : type == at::kFloat ? 1e-5 : 0.05;
      EXPECT_LT((y.to(at::kDouble) - exact).abs().max().item<double>(),
                part * exact.abs().max().item<double>());
    }
  }
}

}  // namespace
}  // namespace strata::engine
