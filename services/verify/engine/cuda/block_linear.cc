#include "services/verify/engine/cuda/block_linear.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>

#include <algorithm>
#include <utility>

namespace strata::engine::cuda {
namespace {

template <typename T>
const T* Data(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<const T*>(tensor.const_data_ptr()) : nullptr;
}

constexpr int64_t kLargerBlocks[] = {512, 256, 128};

// Rows of somebody's memory as a tensor. That the device is named spares a question to
// the driver, which a stream that is being captured might not allow.
template <typename T>
at::Tensor Rows(const T* data, int64_t rows, int64_t width, const at::Tensor& like) {
  return at::for_blob(const_cast<T*>(data), {rows, width})
      .options(like.options())
      .target_device(like.device())
      .make_tensor();
}

bool SameBits(const at::Tensor& a, const at::Tensor& b) {
  const auto bits = a.element_size() == 4 ? at::kInt : at::kShort;
  return a.contiguous().view(bits).equal(b.contiguous().view(bits));
}

}  // namespace

template <typename T>
BlockLinear<T>::BlockLinear(LinearWeights weights, Launcher<T>& launcher)
    : weight_(std::move(weights.weight)),
      bias_(std::move(weights.bias)),
      in_(weight_.size(1)),
      out_(weight_.size(0)),
      rows_(Data<T>(weight_), Data<T>(bias_), in_, out_, launcher),
      launcher_(launcher) {}

template <typename T>
void BlockLinear<T>::Forward(const T* x, int64_t rows, T* y) const {
  if (use_rows_) return rows_.Forward(x, rows, y);
  while (rows > 0) {
    int64_t block = kLinearRows;
    for (const int64_t larger : larger_blocks_) {
      if (larger <= rows) block = std::max(block, larger);
    }
    Multiply(x, block, y);
    x += block * in_;
    y += block * out_;
    rows -= block;
  }
}

template <typename T>
void BlockLinear<T>::Multiply(const T* x, int64_t rows, T* y) const {
  const at::Tensor transposed = weight_.t();
  const at::Tensor from = Rows(x, rows, in_, weight_);
  at::Tensor to = Rows(y, rows, out_, weight_);
  if (bias_.defined()) {
    // The product is added to it in fp32, so that the sum is rounded once.
    launcher_.FillRows({Data<T>(bias_), out_, y}, rows);
    to.addmm_(from, transposed);
  } else {
    at::mm_out(to, from, transposed);
  }
}

template <typename T>
at::Tensor BlockLinear<T>::Run(const at::Tensor& x) const {
  at::Tensor y = at::empty({x.size(0), out_}, x.options());
  Forward(Data<T>(x), x.size(0), static_cast<T*>(y.data_ptr()));
  return y;
}

template <typename T>
bool BlockLinear<T>::CheckRowInvariance() const {
  // A bf16 result hides most differences in the order of a sum, so many rows are compared.
  constexpr int64_t kRows = 2 * kLinearRows;
  const at::Tensor x = at::randn({kRows, in_}, weight_.options());
  const at::Tensor expected = Run(x);
  const at::Tensor zeros = at::zeros_like(x);
  for (int round = 0; round < 7; ++round) {
    const at::Tensor order = at::randperm(kRows, x.options().dtype(at::kLong));
    const at::Tensor shuffled = x.index_select(0, order);
    const at::Tensor shuffled_expected = expected.index_select(0, order);
    if (!SameBits(Run(shuffled), shuffled_expected)) return false;
    // A half of the rows, then fewer, down to one: beside large numbers, and beside padding.
    const int64_t kept = kRows >> (round + 1);
    for (const at::Tensor& others : {at::randn_like(x) * 1000, zeros}) {
      at::Tensor mixed = others.clone();
      mixed.slice(0, 0, kept).copy_(shuffled.slice(0, 0, kept));
      // Kept rows again lie anywhere.
      const at::Tensor again = at::randperm(kRows, order.options());
      const at::Tensor got = Run(mixed.index_select(0, again));
      at::Tensor back = at::empty_like(got);
      back.index_copy_(0, again, got);
      if (!SameBits(back.slice(0, 0, kept), shuffled_expected.slice(0, 0, kept))) return false;
    }
  }
  return true;
}

template <typename T>
std::vector<int64_t> BlockLinear<T>::FindLargerBlocks() const {
  std::vector<int64_t> found;
  for (const int64_t rows : kLargerBlocks) {
    bool same = true;
    // Also where sums lose much: the order of a sum shows more often.
    for (int round = 0; round < 3 && same; ++round) {
      at::Tensor x = at::randn({rows, in_}, weight_.options());
      if (round == 2) x.mul_(at::randn_like(x).mul_(8).exp_());
      at::Tensor in_one = at::empty({rows, out_}, x.options());
      Multiply(Data<T>(x), rows, static_cast<T*>(in_one.data_ptr()));
      at::Tensor in_blocks = at::empty_like(in_one);
      for (int64_t at = 0; at < rows; at += kLinearRows) {
        Multiply(Data<T>(x) + at * in_, kLinearRows,
                 static_cast<T*>(in_blocks.data_ptr()) + at * out_);
      }
      same = SameBits(in_one, in_blocks);
    }
    if (same) found.push_back(rows);
  }
  return found;
}

template class BlockLinear<float>;
template class BlockLinear<Bf16>;

void UseFullPrecision() {
  at::Context& context = at::globalContext();
  // cuBLASLt, for it can be kept from splitting a sum among blocks of threads, into as many parts
  // as the number of rows suggests: larger blocks then have the same bits. It is no slower.
  context.setBlasPreferredBackend(at::BlasBackend::Cublaslt);
  context.setAllowTF32CuBLAS(false);
  context.setAllowBF16ReductionCuBLAS(false, /*allow_splitk=*/false);
}

}  // namespace strata::engine::cuda
