#include "common/metrics/exporter.h"

#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <prometheus/text_serializer.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <exception>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "common/base/atomic_file.h"
#include "common/base/host_port.h"

namespace strata::metrics {
namespace {

// Scrapers that are connected at a time, and seconds until one that says nothing is not any more.
constexpr unsigned kMostConnections = 64;
constexpr unsigned kPatienceSeconds = 10;

struct Socket {
  int descriptor = -1;
  int port = 0;
};

// Listens at the first of the host's addresses that can be had.
absl::StatusOr<Socket> Listen(const HostPort& address) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int failed =
      getaddrinfo(address.host.c_str(), absl::StrCat(address.port).c_str(), &hints, &found);
  if (failed != 0) return absl::UnavailableError(gai_strerror(failed));
  int error = EADDRNOTAVAIL;
  Socket socket;
  for (const addrinfo* at = found; at != nullptr && socket.port == 0; at = at->ai_next) {
    socket.descriptor = ::socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);
    const int yes = 1;
    sockaddr_storage bound = {};
    socklen_t size = sizeof(bound);
    if (socket.descriptor >= 0 &&
        setsockopt(socket.descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) == 0 &&
        bind(socket.descriptor, at->ai_addr, at->ai_addrlen) == 0 &&
        listen(socket.descriptor, SOMAXCONN) == 0 &&
        getsockname(socket.descriptor, reinterpret_cast<sockaddr*>(&bound), &size) == 0) {
      socket.port = ntohs(bound.ss_family == AF_INET6
                              ? reinterpret_cast<const sockaddr_in6*>(&bound)->sin6_port
                              : reinterpret_cast<const sockaddr_in*>(&bound)->sin_port);
      continue;
    }
    error = errno;
    if (socket.descriptor >= 0) close(socket.descriptor);
  }
  freeaddrinfo(found);
  if (socket.port == 0) return absl::UnavailableError(std::strerror(error));
  return socket;
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

// A thread of libmicrohttpd's, whose stack it leaves to the system: prometheus-cpp's own endpoint
// has 100 KiB, less than a CUDA build of LibTorch has thread-local data.
class Exporter::Endpoint {
 public:
  explicit Endpoint(std::shared_ptr<const Registration::Sources> sources)
      : sources_(std::move(sources)) {}
  // Waits for no scraper.
  ~Endpoint() {
    if (daemon_ != nullptr) MHD_stop_daemon(daemon_);
  }
  Endpoint(const Endpoint&) = delete;
  Endpoint& operator=(const Endpoint&) = delete;

  // Once. Returns the port.
  absl::StatusOr<int> Start(const HostPort& address) {
    const absl::StatusOr<Socket> socket = Listen(address);
    if (!socket.ok()) return socket.status();
    daemon_ = MHD_start_daemon(MHD_USE_AUTO_INTERNAL_THREAD, 0, nullptr, nullptr, &Answer, this,
                               MHD_OPTION_LISTEN_SOCKET, socket->descriptor,
                               MHD_OPTION_CONNECTION_LIMIT, kMostConnections,
                               MHD_OPTION_CONNECTION_TIMEOUT, kPatienceSeconds, MHD_OPTION_END);
    // The socket is not closed here: whether the library has done so depends on what failed.
    if (daemon_ == nullptr) return absl::UnavailableError("its thread does not start");
    return socket->port;
  }

 private:
  // Called by C, which nothing may be thrown through.
  static MHD_Result Answer(void* endpoint, MHD_Connection* connection, const char* url,
                           const char* method, const char* /*version*/, const char* /*upload*/,
                           size_t* /*upload_size*/, void** /*state*/) noexcept {
    const absl::string_view verb = method;
    if (verb != MHD_HTTP_METHOD_GET && verb != MHD_HTTP_METHOD_HEAD) {
      return Send(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "");
    }
    if (absl::string_view(url) != "/metrics") return Send(connection, MHD_HTTP_NOT_FOUND, "");
    try {
      return Send(connection, MHD_HTTP_OK,
                  static_cast<const Endpoint*>(endpoint)->sources_->Collect());
    } catch (const std::exception& error) {
      spdlog::error("metrics could not be collected: {}", error.what());
      return Send(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "");
    }
  }
  static MHD_Result Send(MHD_Connection* connection, unsigned status,
                         const std::string& page) noexcept {
    MHD_Response* response = MHD_create_response_from_buffer(
        page.size(), const_cast<char*>(page.data()), MHD_RESPMEM_MUST_COPY);
    if (response == nullptr) return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
                            "text/plain; version=0.0.4; charset=utf-8");
    const MHD_Result queued = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return queued;
  }

  const std::shared_ptr<const Registration::Sources> sources_;
  MHD_Daemon* daemon_ = nullptr;
};

Exporter::Exporter() : sources_(std::make_shared<Registration::Sources>()) {}
Exporter::~Exporter() = default;

absl::StatusOr<std::unique_ptr<Exporter>> Exporter::Start(const ExporterOptions& options) {
  std::unique_ptr<Exporter> exporter(new Exporter());
  if (options.listen.empty()) return exporter;
  const std::optional<HostPort> address = ParseHostPort(options.listen);
  if (!address.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "metrics address '", options.listen, "' (--metrics-listen) is not HOST:PORT (0 to 65535)"));
  }
  exporter->endpoint_ = std::make_unique<Endpoint>(exporter->sources_);
  const absl::StatusOr<int> port = exporter->endpoint_->Start(*address);
  if (!port.ok()) {
    return absl::UnavailableError(absl::StrCat("cannot serve metrics on '", options.listen,
                                               "' (--metrics-listen): ", port.status().message()));
  }
  exporter->address_ = WithPort(options.listen, *port);
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
