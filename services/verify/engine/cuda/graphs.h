#ifndef STRATA_SERVICES_VERIFY_ENGINE_CUDA_GRAPHS_H_
#define STRATA_SERVICES_VERIFY_ENGINE_CUDA_GRAPHS_H_

#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAGraph.h>

#include <cstdint>
#include <map>
#include <memory>
#include <utility>

namespace strata::engine::cuda {

// Work that is started over and over in a few sizes (of two kinds), as a CUDA graph for each: one
// call to the driver instead of hundreds. The work of a size must be the same kernels with the same
// parameters every time, allocate nothing, and run on the current stream, which is not the default
// one.
class Graphs {
 public:
  // Runs work() as it is the first time that a size is seen, so that whatever libraries set up on
  // first use is set up; captures it the second time; replays what was captured from then on.
  template <typename Work>
  void Run(std::pair<int64_t, int64_t> size, const Work& work) {
    Entry& entry = entries_[size];
    if (!entry.seen) {
      work();
      entry.seen = true;
      return;
    }
    if (entry.graph == nullptr) entry.graph = Capture(work);
    entry.graph->replay();
  }

  // Forgets what was captured, as its parameters have changed.
  void Clear() {
    for (auto& [size, entry] : entries_) entry.graph.reset();
  }

 private:
  struct Entry {
    bool seen = false;
    std::unique_ptr<at::cuda::CUDAGraph> graph;
  };

  template <typename Work>
  static std::unique_ptr<at::cuda::CUDAGraph> Capture(const Work& work) {
    // A thread's first use of cuBLAS makes a handle and its workspace, which a capture does not
    // allow.
    at::cuda::getCurrentCUDABlasHandle();
    auto graph = std::make_unique<at::cuda::CUDAGraph>();
    graph->capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
    try {
      work();
    } catch (...) {
      // The stream must not stay in capture; what work() threw says more than what this may throw.
      try {
        graph->capture_end();
      } catch (...) {  // NOLINT(bugprone-empty-catch)
      }
      throw;
    }
    graph->capture_end();
    return graph;
  }

  std::map<std::pair<int64_t, int64_t>, Entry> entries_;
};

}  // namespace strata::engine::cuda

#endif  // STRATA_SERVICES_VERIFY_ENGINE_CUDA_GRAPHS_H_
