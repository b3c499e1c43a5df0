#include "common/metrics/exporter.h"

#include <httplib.h>
#include <prometheus/text_serializer.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <map>
#include <thread>
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

constexpr size_t kThreads = 2;
// A scraper that sends nothing, or takes nothing, gives its thread back after this. It may hold up
// the end of the process for as long.
constexpr std::chrono::seconds kPatience(5);
// Of a request's body; there is no use for one.
constexpr size_t kMaxPayload = 4096;

struct HostPort {
  std::string host;
  int port = 0;
};

absl::StatusOr<HostPort> ParseListen(absl::string_view listen) {
  const size_t colon = listen.rfind(':');
  uint32_t port = 0;
  const bool fits = colon != absl::string_view::npos && colon > 0 &&
                    std::all_of(listen.begin() + colon + 1, listen.end(), absl::ascii_isdigit) &&
                    absl::SimpleAtoi(listen.substr(colon + 1), &port) && port <= UINT16_MAX &&
                    std::none_of(listen.begin(), listen.end(), [](char c) {
                      return c == ',' || c == '+' || !absl::ascii_isgraph(c);
                    });
  if (!fits) {
    return absl::InvalidArgumentError(
        absl::StrCat("metrics address '", listen, "' (--metrics-listen) is not HOST:PORT"));
  }
  absl::string_view host = listen.substr(0, colon);
  // IPv6.
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  return HostPort{std::string(host), static_cast<int>(port)};
}

}  // namespace

struct Exporter::Registration::Sources {
  std::string Collect() const {
    Page page;
    absl::MutexLock lock(&mutex);
    for (const auto& [id, collect] : collects) {
      // Only lack of memory is thrown; a page that lacks something is better than none.
      try {
        collect(page);
      } catch (const std::exception& error) {
        spdlog::error("metrics could not be collected: {}", error.what());
      }
    }
    return prometheus::TextSerializer().Serialize(page.TakeFamilies());
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

class Exporter::Endpoint {
 public:
  explicit Endpoint(std::shared_ptr<Registration::Sources> sources) {
    server_.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
    // The library's own choice would let two servers share a port.
    server_.set_socket_options([](int socket) {
      const int yes = 1;
      setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    });
    // A connection that is kept open would hold a thread.
    server_.set_keep_alive_max_count(1);
    server_.set_read_timeout(kPatience);
    server_.set_write_timeout(kPatience);
    server_.set_payload_max_length(kMaxPayload);
    server_.Get("/metrics", [sources = std::move(sources)](const httplib::Request&,
                                                           httplib::Response& response) {
      response.set_content(sources->Collect(), "text/plain; version=0.0.4; charset=utf-8");
    });
  }
  ~Endpoint() {
    server_.stop();
    if (thread_.joinable()) thread_.join();
  }
  Endpoint(const Endpoint&) = delete;
  Endpoint& operator=(const Endpoint&) = delete;

  // Returns the port, 0 if the address cannot be had. Serves it from then on.
  int Start(const HostPort& address) {
    const int port = address.port == 0 ? server_.bind_to_any_port(address.host)
                     : server_.bind_to_port(address.host, address.port) ? address.port
                                                                        : 0;
    if (port <= 0) return 0;
    thread_ = std::thread([this] {
      try {
        server_.listen_after_bind();
      } catch (const std::exception& error) {
        spdlog::error("metrics are not served: {}", error.what());
      }
      ended_ = true;
    });
    // stop() is lost on a server that does not run yet.
    while (!server_.is_running() && !ended_) std::this_thread::yield();
    return ended_ ? 0 : port;
  }

 private:
  httplib::Server server_;
  std::atomic<bool> ended_ = false;
  std::thread thread_;
};

Exporter::Exporter() : sources_(std::make_shared<Registration::Sources>()) {}
Exporter::~Exporter() = default;

absl::StatusOr<std::unique_ptr<Exporter>> Exporter::Start(const ExporterOptions& options) {
  std::unique_ptr<Exporter> exporter(new Exporter());
  if (options.listen.empty()) return exporter;
  const absl::StatusOr<HostPort> address = ParseListen(options.listen);
  if (!address.ok()) return address.status();
  exporter->endpoint_ = std::make_unique<Endpoint>(exporter->sources_);
  const int port = exporter->endpoint_->Start(*address);
  if (port == 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot serve metrics on '", options.listen,
                     "' (--metrics-listen): the address is in use or not this machine's"));
  }
  exporter->address_ = absl::StrCat(options.listen.substr(0, options.listen.rfind(':') + 1), port);
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
