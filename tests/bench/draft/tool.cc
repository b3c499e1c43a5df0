#include "tests/bench/draft/tool.h"

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "common/rpc/serving.h"

namespace strata::draft_bench {

absl::StatusOr<std::vector<replay::Row>> LoadTrafficRows(const std::string& file,
                                                         int64_t vocab_size) {
  auto rows = replay::LoadRows(file, vocab_size);
  if (!rows.ok()) return rows.status();
  if (std::all_of(rows->begin(), rows->end(), [](const auto& row) { return row.output.empty(); })) {
    return absl::InvalidArgumentError(absl::StrCat(file, " has no outputs"));
  }
  return rows;
}

int RunTool(const char* name, CLI::App& app, int argc, char** argv,
            const std::function<absl::Status()>& run) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : rpc::kUsageError;
  }
  const absl::Status status = run();
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s: %s\n", name, std::string(status.message()).c_str());
  return 1;
}

}  // namespace strata::draft_bench
