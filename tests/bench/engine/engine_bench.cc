// Times plain decoding and draft-tree steps of a model, and tells what threads spend a pass on
// (empty where they do not compute it together). One JSON object on stdout.
//
//   engine_bench [--device cpu|cuda|cuda:N] [--no-cuda-graphs] MODEL_DIR [bf16|fp32|int8] [THREADS]
//                [CONTEXT]
//
// Run it with nothing else on the machine; compare ratios within one run.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <string>
#include <vector>

#include "services/verify/engine/engine.h"
#include "services/verify/engine/ranking.h"

namespace {

using namespace strata::engine;

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void Check(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.message().c_str());
  std::exit(1);
}

std::vector<int32_t> Iota(int64_t count) {
  std::vector<int32_t> rows(count);
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

double Median(std::vector<double>& times) {
  std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
  return times[times.size() / 2];
}

// In milliseconds, medians.
struct Step {
  // A pass over a binary tree, nothing committed.
  double pass;
  // The kRanked best tokens of each of its rows, one row after another: what recycled candidates
  // cost besides.
  double ranking;
  // Where the passes' threads spent their time.
  WorkSeconds work;
};
constexpr int kRanked = 8;

Step TreeStep(Engine& engine, KvSequence& sequence, int rows) {
  std::vector<int32_t> tokens(rows), parents(rows);
  for (int i = 0; i < rows; ++i) {
    tokens[i] = 100 + i;
    parents[i] = i == 0 ? -1 : (i - 1) / 2;
  }
  const std::vector<int32_t> wanted = Iota(rows);
  ForwardOutput output(engine.host_memory());
  std::vector<double> passes, rankings;
  WorkSeconds work = engine.work_seconds();
  for (int k = 0; k < 15; ++k) {
    const double start = Seconds();
    const SequenceInput input{&sequence, tokens, parents, wanted};
    Check(engine.Forward({&input, 1}, output));
    Check(engine.Commit(sequence, {}));
    passes.push_back((Seconds() - start) * 1e3);
    const double ranking_start = Seconds();
    std::vector<int32_t> top(kRanked);
    for (int row = 0; row < rows; ++row) {
      if (TopTokens(output.row(row), output.row_block_max(row), top) == 0) std::abort();
    }
    rankings.push_back((Seconds() - ranking_start) * 1e3);
  }
  const WorkSeconds after = engine.work_seconds();
  for (size_t kind = 0; kind < kWorkKinds; ++kind) work[kind] = after[kind] - work[kind];
  return {Median(passes), Median(rankings), work};
}

// In hundredths; empty if nothing was counted.
std::string SharesOf(const WorkSeconds& work) {
  const double all = std::accumulate(work.begin(), work.end(), 0.0);
  if (all == 0) return {};
  std::string text;
  for (size_t kind = 0; kind < kWorkKinds; ++kind) {
    char share[48];
    std::snprintf(share, sizeof(share), "%s\"%s\": %.1f", kind == 0 ? "" : ", ", kWorkNames[kind],
                  100 * work[kind] / all);
    text += share;
  }
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  EngineOptions options;
  std::vector<std::string> args;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--device" && i + 1 < argc) {
      options.device = argv[++i];
    } else if (arg == "--no-cuda-graphs") {
      options.cuda_graphs = false;
    } else {
      args.push_back(arg);
    }
  }
  if (args.empty() || args[0].starts_with("--")) {
    std::fprintf(stderr,
                 "usage: engine_bench [--device cpu|cuda|cuda:N] [--no-cuda-graphs] MODEL_DIR "
                 "[bf16|fp32|int8] [THREADS] [CONTEXT]\n");
    return 2;
  }
  options.model_dir = args[0];
  if (args.size() > 1) options.dtype = args[1] == "fp32" ? DType::kFp32 : DType::kBf16;
  options.int8_weights = args.size() > 1 && args[1] == "int8";
  if (args.size() > 2) options.threads = std::atoi(args[2].c_str());
  const int context = args.size() > 3 ? std::atoi(args[3].c_str()) : 128;
  options.kv_tokens = context + 1024;
  const double load_start = Seconds();
  auto engine = Engine::Load(options);
  Check(engine.status());
  const double load = Seconds() - load_start;

  auto sequence = (*engine)->NewSequence();
  std::vector<int32_t> prompt(context);
  for (int i = 0; i < context; ++i) prompt[i] = 10 + (i * 7919) % 1000;
  ForwardOutput output((*engine)->host_memory());
  const std::vector<int32_t> last = {context - 1};
  const double prefill_start = Seconds();
  const SequenceInput prefill{sequence.get(), prompt, {}, last};
  Check((*engine)->Forward({&prefill, 1}, output));
  const double prefill_time = Seconds() - prefill_start;
  Check((*engine)->Commit(*sequence, Iota(context)));

  constexpr int kTokens = 128;
  const std::vector<int32_t> row = {0};
  const double decode_start = Seconds();
  for (int i = 0; i < kTokens; ++i) {
    const auto logits = output.row(0);
    const int32_t best =
        static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    const SequenceInput input{sequence.get(), {&best, 1}, {}, row};
    Check((*engine)->Forward({&input, 1}, output));
    Check((*engine)->Commit(*sequence, row));
  }
  const double decode = Seconds() - decode_start;
  std::printf(
      "{\"exact\": %s, \"load_seconds\": %.2f, \"prefill_tokens_per_second\": %.0f, "
      "\"decode_tokens_per_second\": %.1f, \"step_ms\": {",
      (*engine)->info().exact ? "true" : "false", load, context / prefill_time, kTokens / decode);
  std::string passes, rankings, shares;
  for (int rows : {1, 2, 4, 8, 16, 32, 64, 128, 256}) {
    if (rows > 64 && options.device == "cpu") break;
    const Step step = TreeStep(**engine, *sequence, rows);
    const std::string key = (rows == 1 ? "\"" : ", \"") + std::to_string(rows) + "\": ";
    char value[32];
    std::snprintf(value, sizeof(value), "%.2f", step.pass);
    passes += key + value;
    std::snprintf(value, sizeof(value), "%.3f", step.ranking);
    rankings += key + value;
    shares += key + "{" + SharesOf(step.work) + "}";
  }
  std::printf("%s}, \"ranking_ms\": {%s}, \"thread_percent\": {%s}}\n", passes.c_str(),
              rankings.c_str(), shares.c_str());
  return 0;
}
