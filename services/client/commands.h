#ifndef STRATA_SERVICES_CLIENT_COMMANDS_H_
#define STRATA_SERVICES_CLIENT_COMMANDS_H_

#include <CLI/CLI.hpp>
#include <functional>
#include <vector>

#include "services/client/interrupt.h"

namespace strata::client {

// A subcommand and what it does: Run returns an exit code (exit_codes.h).
struct Command {
  CLI::App* app;
  std::function<int(Interrupt&)> run;
};

// Each adds its subcommand with its flags to `app`, which must outlive the command.
Command AddGenerateCommand(CLI::App& app);
Command AddInfoCommand(CLI::App& app);
Command AddTokenizeCommand(CLI::App& app);
Command AddBenchExactCommand(CLI::App& bench);
Command AddBenchLoadCommand(CLI::App& bench);

}  // namespace strata::client

#endif  // STRATA_SERVICES_CLIENT_COMMANDS_H_
