#ifndef STRATA_TESTS_BENCH_DRAFT_SERVICE_PROCESS_H_
#define STRATA_TESTS_BENCH_DRAFT_SERVICE_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace strata::draft_bench {

// A strata-draft process of this benchmark's own, with a folder for its files; both end with the
// object.
class ServiceProcess {
 public:
  // Starts `binary` on a free port of the loopback and waits until it serves. Every occurrence of
  // kFolder in `flags` becomes the folder. On an error the sentence has the end of the log.
  static absl::StatusOr<std::unique_ptr<ServiceProcess>> Start(const std::string& binary,
                                                               std::vector<std::string> flags);
  static constexpr char kFolder[] = "@FOLDER@";

  ~ServiceProcess();
  ServiceProcess(const ServiceProcess&) = delete;
  ServiceProcess& operator=(const ServiceProcess&) = delete;

  const std::string& address() const { return address_; }
  // Memory that is resident now; 0 if the process is no more.
  uint64_t RssBytes() const;
  // Asks the service to end and waits. An error tells its exit status, if that is not 0.
  absl::Status Stop();

 private:
  explicit ServiceProcess(std::filesystem::path folder) : folder_(std::move(folder)) {}
  absl::Status Spawn(const std::string& binary, const std::vector<std::string>& flags);
  absl::Status AwaitAddress();
  std::string LogEnd() const;

  const std::filesystem::path folder_;
  pid_t pid_ = -1;
  std::string address_;
};

// strata-draft beside the running program.
std::string DefaultServiceBinary();

}  // namespace strata::draft_bench

#endif  // STRATA_TESTS_BENCH_DRAFT_SERVICE_PROCESS_H_
