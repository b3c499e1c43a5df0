#include "common/metrics/exporter.h"

#include <prometheus/collectable.h>
#include <prometheus/exposer.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdint>
#include <exception>
#include <map>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "common/base/atomic_file.h"

namespace strata::metrics {
namespace {

constexpr const char* kThreads = "2";
// A scraper that sends nothing gives its thread back after this.
constexpr const char* kRequestTimeoutMs = "10000";

// The web server's own syntax has more: lists, suffixes for TLS and redirection.
absl::StatusOr<size_t> FindColon(absl::string_view listen) {
  const size_t colon = listen.rfind(':');
  uint32_t port = 0;
  const bool fits = colon != absl::string_view::npos && colon > 0 &&
                    std::all_of(listen.begin() + colon + 1, listen.end(), absl::ascii_isdigit) &&
                    absl::SimpleAtoi(listen.substr(colon + 1), &port) && port <= UINT16_MAX &&
                    std::none_of(listen.begin(), listen.end(), [](char c) {
                      return c == ',' || c == '+' || !absl::ascii_isgraph(c);
                    });
  if (fits) return colon;
  return absl::InvalidArgumentError(
      absl::StrCat("metrics address '", listen, "' (--metrics-listen) is not HOST:PORT"));
}

}  // namespace

struct Exporter::Registration::Sources final : prometheus::Collectable {
  std::vector<prometheus::MetricFamily> Collect() const override {
    Page page;
    absl::MutexLock lock(&mutex);
    for (const auto& [id, collect] : collects) {
      // Only lack of memory is thrown; a page that lacks something is better than none, and the web
      // server is C, which nothing may be thrown through.
      try {
        collect(page);
      } catch (const std::exception& error) {
        spdlog::error("metrics could not be collected: {}", error.what());
      }
    }
    return page.TakeFamilies();
  }

  mutable absl::Mutex mutex;
  std::map<uint64_t, Exporter::Collect> collects ABSL_GUARDED_BY(mutex);
  uint64_t next_id ABSL_GUARDED_BY(mutex) = 0;
};

Exporter::Registration& Exporter::Registration::operator=(Registration&& other) noexcept {
  Reset();
  sources_ = std::move(other.sources_);
  id_ = other.id_;
  return *this;
}

void Exporter::Registration::Reset() {
  if (sources_ == nullptr) return;
  {
    absl::MutexLock lock(&sources_->mutex);
    sources_->collects.erase(id_);
  }
  sources_.reset();
}

struct Exporter::Endpoint {
  explicit Endpoint(const std::string& listen)
      : exposer(std::vector<std::string>{"listening_ports", listen, "num_threads", kThreads,
                                         "request_timeout_ms", kRequestTimeoutMs}) {}
  prometheus::Exposer exposer;
};

Exporter::Exporter() : sources_(std::make_shared<Registration::Sources>()) {}
Exporter::~Exporter() = default;

absl::StatusOr<std::unique_ptr<Exporter>> Exporter::Start(const ExporterOptions& options) {
  std::unique_ptr<Exporter> exporter(new Exporter());
  if (options.listen.empty()) return exporter;
  const absl::StatusOr<size_t> colon = FindColon(options.listen);
  if (!colon.ok()) return colon.status();
  std::vector<int> ports;
  try {
    exporter->endpoint_ = std::make_unique<Endpoint>(options.listen);
    ports = exporter->endpoint_->exposer.GetListeningPorts();
    exporter->endpoint_->exposer.RegisterCollectable(exporter->sources_);
  } catch (const std::exception&) {
    // What it says is no better.
    ports.clear();
  }
  if (ports.empty()) {
    return absl::UnavailableError(
        absl::StrCat("cannot serve metrics on '", options.listen,
                     "' (--metrics-listen): the address is in use or not this machine's"));
  }
  exporter->address_ = absl::StrCat(options.listen.substr(0, *colon + 1), ports.front());
  if (!options.port_file.empty()) {
    absl::Status status = WriteFileAtomically(options.port_file, exporter->address_ + "\n");
    if (!status.ok()) return status;
  }
  spdlog::info("metrics on http://{}/metrics", exporter->address_);
  return exporter;
}

Exporter::Registration Exporter::Add(Collect collect) {
  Registration registration;
  registration.sources_ = sources_;
  absl::MutexLock lock(&sources_->mutex);
  registration.id_ = sources_->next_id++;
  sources_->collects.emplace(registration.id_, std::move(collect));
  return registration;
}

}  // namespace strata::metrics
