#ifndef STRATA_TESTS_ENGINE_CUDA_EMULATION_H_
#define STRATA_TESTS_ENGINE_CUDA_EMULATION_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <random>
#include <type_traits>
#include <vector>

#include "services/verify/engine/cuda/launcher.h"

// Runs the CUDA kernels' own code on the CPU, block by block (services/verify/engine/cuda/block.h).
namespace strata::testing {

// The order in which blocks, warps, threads and lanes take turns. What a kernel computes must not
// depend on it: a thread that reads what another writes in the same phase shows as another result.
enum class Turns { kAscending, kDescending, kShuffled };

template <int kThreadCount>
class EmulatedBlock {
 public:
  static constexpr int kThreads = kThreadCount;
  static constexpr int kWarps = kThreads / engine::cuda::kWarpLanes;

  template <typename State>
  using PerLane = std::array<State, engine::cuda::kWarpLanes>;

  class Lanes {
   public:
    explicit Lanes(EmulatedBlock& block) : block_(block) {}
    template <typename Body>
    void ForEach(const Body& body) {
      block_.InTurns(engine::cuda::kWarpLanes, [&](int lane) {
        lane_ = lane;
        body(lane);
      });
    }
    // Arrives as late as it may: what reads it before it waited reads something else.
    void CopyAsync(void* to, const void* from) { open_[lane_].push_back({to, from}); }
    void EndGroup() {
      groups_[lane_].push_back(open_[lane_]);
      open_[lane_].clear();
    }
    template <int kPending>
    void WaitForGroups() {
      for (auto& groups : groups_) {
        while (groups.size() > kPending) {
          for (const Copy& copy : groups.front()) std::memcpy(copy.to, copy.from, 16);
          groups.erase(groups.begin());
        }
      }
    }

    template <bool kTransposed>
    void Multiply8x32(const engine::Bf16* a, int a_stride, const engine::Bf16* b, int b_stride,
                      int depth, float* c, int c_stride) {
      for (int i = 0; i < 8; ++i) {
        for (int j = 0; j < 32; ++j) {
          float sum = 0;
          for (int k = 0; k < depth; ++k) {
            const engine::Bf16 x = kTransposed ? b[j * b_stride + k] : b[k * b_stride + j];
            sum += engine::ToFloat(a[i * a_stride + k]) * engine::ToFloat(x);
          }
          c[i * c_stride + j] = sum;
        }
      }
    }

   private:
    struct Copy {
      void* to;
      const void* from;
    };
    EmulatedBlock& block_;
    int lane_ = 0;
    std::array<std::vector<Copy>, engine::cuda::kWarpLanes> open_;
    std::array<std::vector<std::vector<Copy>>, engine::cuda::kWarpLanes> groups_;
  };

  EmulatedBlock(int64_t x, int64_t y, int64_t shared_bytes, Turns turns, uint32_t seed)
      : x_(static_cast<int>(x)),
        y_(static_cast<int>(y)),
        turns_(turns),
        random_(seed),
        shared_((shared_bytes + 15) / 16) {
    // NaNs, in fp32 and in bf16: shared memory begins with whatever was there.
    for (Sixteen& piece : shared_) std::memset(piece.bytes, 0xFF, sizeof(piece.bytes));
  }

  int x() const { return x_; }
  int y() const { return y_; }
  std::byte* shared() { return reinterpret_cast<std::byte*>(shared_.data()); }

  template <typename Body>
  void ForEachThread(const Body& body) {
    InTurns(kThreads, body);
  }
  template <typename Body>
  void ForEachWarp(const Body& body) {
    InTurns(kWarps, [&](int warp) {
      Lanes lanes(*this);
      body(warp, lanes);
    });
  }

 private:
  struct alignas(16) Sixteen {
    std::byte bytes[16];
  };
  template <typename Body>
  void InTurns(int count, const Body& body) {
    if (turns_ == Turns::kAscending) {
      for (int i = 0; i < count; ++i) body(i);
    } else if (turns_ == Turns::kDescending) {
      for (int i = count - 1; i >= 0; --i) body(i);
    } else {
      std::vector<int> order(count);
      std::iota(order.begin(), order.end(), 0);
      std::shuffle(order.begin(), order.end(), random_);
      for (int i : order) body(i);
    }
  }

  const int x_;
  const int y_;
  const Turns turns_;
  std::minstd_rand random_;
  std::vector<Sixteen> shared_;
};

// Starts kernels as StreamLauncher does, with the same grids, blocks and shared memory.
template <typename T>
class EmulatedLauncher final : public engine::cuda::Launcher<T> {
 public:
  explicit EmulatedLauncher(Turns turns = Turns::kAscending) : turns_(turns) {}

  void Embed(const engine::cuda::EmbedParams<T>& params, int64_t rows) override {
    Run(rows, 1, 0, [&](auto& block) { engine::cuda::Embed<T>(block, params); });
  }
  void AddRmsNorm(const engine::cuda::AddRmsNormParams<T>& params, int64_t rows) override {
    RunBlocks<engine::cuda::kNormThreads>(
        rows, 1, engine::cuda::kNormThreads * sizeof(float),
        [&](auto& block) { engine::cuda::AddRmsNorm<T>(block, params); });
  }
  void StoreRows(const engine::cuda::StoreRowsParams<T>& params, int64_t rows) override {
    Run(rows, engine::cuda::StoreRowsBlocks(params.heads, params.layout.kv_heads), 0,
        [&](auto& block) { engine::cuda::StoreRows<T>(block, params); });
  }
  void PagedAttention(const engine::cuda::AttentionParams<T>& params, int64_t rows) override {
    if constexpr (std::is_same_v<T, engine::Bf16>) {
      engine::cuda::WithTensorAttentionGrid(params, [&](auto chunks, const auto& grid, int64_t y) {
        const engine::cuda::TensorShared sizes = {static_cast<int>(params.layout.head_dim)};
        RunBlocks<engine::cuda::kTensorWarps * engine::cuda::kWarpLanes>(
            rows, y, sizes.Bytes(),
            [&](auto& block) { engine::cuda::TensorAttention<chunks()>(block, grid); });
      });
    } else {
      engine::cuda::ForEachAttentionGrid(
          params, [&](auto heads, auto chunks, const auto& grid, int64_t y) {
            constexpr int kHeads = heads(), kChunks = chunks();
            constexpr int kWarps = engine::cuda::AttentionWarps<T>(kChunks);
            const int64_t shared =
                engine::cuda::AttentionSharedBytes<T>(params.layout.head_dim, kHeads, kWarps);
            RunBlocks<kWarps * engine::cuda::kWarpLanes>(rows, y, shared, [&](auto& block) {
              engine::cuda::PagedAttention<T, kHeads, kChunks>(block, grid);
            });
          });
    }
  }
  void SiluMultiply(const engine::cuda::SiluMultiplyParams<T>& params, int64_t rows) override {
    Run(rows, engine::cuda::SiluMultiplyBlocks(params.width), 0,
        [&](auto& block) { engine::cuda::SiluMultiply<T>(block, params); });
  }
  void WidenLogits(const engine::cuda::WidenLogitsParams<T>& params, int64_t rows) override {
    Run(engine::cuda::WidenLogitsBlocks(params.vocab), rows, kFloats,
        [&](auto& block) { engine::cuda::WidenLogits<T>(block, params); });
  }
  void FillRows(const engine::cuda::FillRowsParams<T>& params, int64_t rows) override {
    Run(rows, 1, 0, [&](auto& block) { engine::cuda::FillRows<T>(block, params); });
  }
  void LinearRows(const engine::cuda::LinearRowsParams<T>& params, int64_t rows) override {
    Run(engine::cuda::LinearRowsBlocks(params.out), rows, kFloats,
        [&](auto& block) { engine::cuda::LinearRows<T>(block, params); });
  }
  void MoveTokens(const engine::cuda::MoveTokensParams<T>& params, int64_t layers) override {
    Run(layers, params.layout.kv_heads, 0,
        [&](auto& block) { engine::cuda::MoveTokens<T>(block, params); });
  }

 private:
  static constexpr int64_t kFloats = engine::cuda::kBlockThreads * sizeof(float);

  template <typename Kernel>
  void Run(int64_t x, int64_t y, int64_t shared_bytes, const Kernel& kernel) {
    RunBlocks<engine::cuda::kBlockThreads>(x, y, shared_bytes, kernel);
  }
  template <int kThreads, typename Kernel>
  void RunBlocks(int64_t x, int64_t y, int64_t shared_bytes, const Kernel& kernel) {
    std::vector<int64_t> order(x * y);
    std::iota(order.begin(), order.end(), 0);
    if (turns_ == Turns::kDescending) std::reverse(order.begin(), order.end());
    if (turns_ == Turns::kShuffled) std::shuffle(order.begin(), order.end(), random_);
    for (int64_t i : order) {
      EmulatedBlock<kThreads> block(i % x, i / x, shared_bytes, turns_, random_());
      kernel(block);
    }
  }

  const Turns turns_;
  std::minstd_rand random_{1};
};

// Compiled once, in cuda_emulation.cc.
extern template class EmulatedLauncher<float>;
extern template class EmulatedLauncher<engine::Bf16>;

}  // namespace strata::testing

#endif  // STRATA_TESTS_ENGINE_CUDA_EMULATION_H_
