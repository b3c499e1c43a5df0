// strata: the command line of a verify service. Exit codes: exit_codes.h.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <vector>

#include "common/rpc/shutdown_signal.h"
#include "services/client/commands.h"
#include "services/client/exit_codes.h"
#include "services/client/interrupt.h"

namespace strata::client {
namespace {

int Main(int argc, char** argv) {
  CLI::App app("Generates text with a Strata verify service.", "strata");
  app.set_version_flag("--version", STRATA_VERSION);
  app.require_subcommand(1);
  std::vector<Command> commands = {AddGenerateCommand(app), AddInfoCommand(app),
                                   AddTokenizeCommand(app)};
  CLI::App* bench = app.add_subcommand("bench", "Measures a service");
  bench->require_subcommand(1);
  commands.push_back(AddBenchExactCommand(*bench));
  commands.push_back(AddBenchLoadCommand(*bench));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kSuccess : kUsage;
  }
  if (const absl::Status status = rpc::BlockShutdownSignals(); !status.ok()) {
    std::fprintf(stderr, "strata: %s\n", status.ToString().c_str());
    return kServiceError;
  }
  Interrupt interrupt;
  for (const Command& command : commands) {
    if (command.app->parsed()) return command.run(interrupt);
  }
  return kUsage;
}

}  // namespace
}  // namespace strata::client

int main(int argc, char** argv) {
  try {
    return strata::client::Main(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "strata: %s\n", error.what());
    return strata::client::kServiceError;
  }
}
