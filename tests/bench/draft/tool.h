#ifndef STRATA_TESTS_BENCH_DRAFT_TOOL_H_
#define STRATA_TESTS_BENCH_DRAFT_TOOL_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/bench/replay/rows.h"

namespace strata::draft_bench {

// The rows that a tool makes its traffic of. INVALID_ARGUMENT also if no row has an output.
absl::StatusOr<std::vector<replay::Row>> LoadTrafficRows(const std::string& file,
                                                         int64_t vocab_size);

// Parses the command line and runs; prints an error of `run` behind the tool's name. What main() is
// to return: 0, 1 after such an error, rpc::kUsageError for a wrong command line.
int RunTool(const char* name, CLI::App& app, int argc, char** argv,
            const std::function<absl::Status()>& run);

}  // namespace strata::draft_bench

#endif  // STRATA_TESTS_BENCH_DRAFT_TOOL_H_
