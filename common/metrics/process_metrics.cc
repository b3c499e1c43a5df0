#include "common/metrics/process_metrics.h"

#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>

namespace strata::metrics {
namespace {

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
}

// 0 if it is not there.
double ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  uint64_t total = 0;
  uint64_t resident = 0;
  if (!(file >> total >> resident)) return 0;
  return static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE));
}

// Since 1970, in seconds; 0 if it is not there.
double StartTime() {
  std::ifstream file("/proc/self/stat");
  const std::string stat((std::istreambuf_iterator<char>(file)), {});
  // The second field, the program's name, may hold anything; the 22nd is the start in ticks.
  size_t at = stat.rfind(')');
  for (int field = 2; field < 22 && at != std::string::npos; ++field) at = stat.find(' ', at + 1);
  if (at == std::string::npos) return 0;
  const double ticks = std::strtod(stat.c_str() + at, nullptr);
  std::ifstream boot("/proc/stat");
  for (std::string key; boot >> key;) {
    double value = 0;
    if (key == "btime" && boot >> value) {
      return value + ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
    }
  }
  return 0;
}

int64_t OpenDescriptors() {
  std::error_code error;
  const std::filesystem::directory_iterator files("/proc/self/fd", error);
  // One of them is the iterator's own.
  return error ? 0 : std::distance(begin(files), end(files)) - 1;
}

}  // namespace

void CollectProcess(Page& page) {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) == 0) {
    page.AddCounter("process_cpu_seconds_total", "Processor time used, user and system.",
                    Seconds(usage.ru_utime) + Seconds(usage.ru_stime));
  }
  if (const double bytes = ResidentBytes(); bytes > 0) {
    page.AddGauge("process_resident_memory_bytes", "Memory in use.", bytes);
  }
  if (const int64_t open = OpenDescriptors(); open > 0) {
    page.AddGauge("process_open_fds", "Open file descriptors.", static_cast<double>(open));
  }
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    page.AddGauge("process_max_fds", "Most file descriptors that may be open.",
                  static_cast<double>(limit.rlim_cur));
  }
  if (static const double start = StartTime(); start > 0) {
    page.AddGauge("process_start_time_seconds", "When the process started, since 1970.", start);
  }
}

}  // namespace strata::metrics
