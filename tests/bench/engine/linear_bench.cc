// All linear layers of a Llama-shaped model in bf16, at::linear on the weights as
// they are against PackedLinear, by number of rows. Milliseconds for the whole model.
//
//   linear_bench [HIDDEN INTERMEDIATE Q_WIDTH KV_WIDTH LAYERS VOCAB [THREADS]]
//
// The default is SmolLM2-135M: 576 1536 576 192 30 49152, 2 threads.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "services/verify/engine/linear.h"

namespace {

template <typename Body>
double MedianMs(const Body& body) {
  std::vector<double> times;
  for (int i = 0; i < 9; ++i) {
    const auto start = std::chrono::steady_clock::now();
    body();
    times.push_back(
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
            .count());
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  int64_t n[] = {576, 1536, 576, 192, 30, 49152, 2};
  for (int i = 1; i < argc && i <= 7; ++i) n[i - 1] = std::atoll(argv[i]);
  const auto [hidden, inner, q, kv, layers, vocab, threads] = n;
  at::set_num_threads(static_cast<int>(threads));
  c10::InferenceMode guard;
  const auto options = at::TensorOptions().dtype(at::kBFloat16);
  std::vector<at::Tensor> plain;
  for (int64_t i = 0; i < layers; ++i) {
    for (const auto& [out, in] : {std::pair{q, hidden},
                                  {kv, hidden},
                                  {kv, hidden},
                                  {hidden, q},
                                  {inner, hidden},
                                  {inner, hidden},
                                  {hidden, inner}}) {
      plain.push_back(at::randn({out, in}, options));
    }
  }
  plain.push_back(at::randn({vocab, hidden}, options));
  using strata::engine::PackedLinear;
  using strata::engine::WeightType;
  std::vector<PackedLinear> packed, int8;
  for (const at::Tensor& weight : plain) {
    packed.emplace_back(weight, at::Tensor(), WeightType::kNative);
    int8.emplace_back(weight, at::Tensor(), WeightType::kInt8);
  }
  for (int64_t rows : {1, 2, 8, 16, 32}) {
    auto input = [&](const at::Tensor& weight, int64_t count) {
      return at::ones({count, weight.size(1)}, options);
    };
    const double as_is = MedianMs([&] {
      for (const at::Tensor& weight : plain) at::linear(input(weight, rows), weight);
    });
    // Fewer rows than least_rows() are padded, and cost what those cost.
    const auto run = [&](const std::vector<PackedLinear>& layers) {
      return MedianMs([&] {
        for (size_t i = 0; i < layers.size(); ++i) {
          layers[i].Forward(input(plain[i], std::max(rows, layers[i].least_rows())));
        }
      });
    };
    const double with_packing = run(packed);
    const double in_int8 = run(int8);
    std::printf("{\"rows\": %ld, \"at_linear_ms\": %.2f, \"packed_ms\": %.2f, \"int8_ms\": %.2f}\n",
                static_cast<long>(rows), as_is, with_packing, in_int8);
  }
  return 0;
}
