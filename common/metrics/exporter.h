#ifndef STRATA_COMMON_METRICS_EXPORTER_H_
#define STRATA_COMMON_METRICS_EXPORTER_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/metrics/page.h"

namespace strata::metrics {

struct ExporterOptions {
  // HOST:PORT (port 0: any free one); empty: nothing is served. Of a host with several addresses it
  // is the first that can be had.
  std::string listen;
  // The address that is served is written to this file; empty: to none.
  std::string port_file;
};

// An HTTP endpoint for Prometheus: GET /metrics. Numbers are asked for when they are scraped, so
// that keeping them costs nothing else; the endpoint has threads of its own. Plain text and open to
// whoever can reach it: it belongs on a network that only the monitoring can reach. Thread-safe.
class Exporter {
 public:
  // Adds numbers to a page. Called from the endpoint's threads, one at a time.
  using Collect = std::function<void(Page&)>;

  // While it lives, its Collect is asked; once destroyed, it is not being asked any more. May
  // outlive the exporter.
  class Registration {
   public:
    Registration() = default;
    Registration(Registration&&) = default;
    Registration& operator=(Registration&& other) noexcept;
    ~Registration() { Reset(); }

   private:
    friend class Exporter;
    struct Sources;
    void Reset();
    std::shared_ptr<Sources> sources_;
    uint64_t id_ = 0;
  };

  // INVALID_ARGUMENT if `listen` is not HOST:PORT, UNAVAILABLE if it cannot be bound, or an error
  // of writing the port file.
  static absl::StatusOr<std::unique_ptr<Exporter>> Start(const ExporterOptions& options);
  ~Exporter();
  Exporter(const Exporter&) = delete;
  Exporter& operator=(const Exporter&) = delete;

  [[nodiscard]] Registration Add(Collect collect);
  // Where it listens, with the port that the system chose; empty if it does not.
  const std::string& address() const { return address_; }

 private:
  class Endpoint;
  Exporter();

  const std::shared_ptr<Registration::Sources> sources_;
  std::unique_ptr<Endpoint> endpoint_;
  std::string address_;
};

}  // namespace strata::metrics

#endif  // STRATA_COMMON_METRICS_EXPORTER_H_
