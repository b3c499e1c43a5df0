#ifndef STRATA_TESTS_FUZZ_RPC_FUZZ_H_
#define STRATA_TESTS_FUZZ_RPC_FUZZ_H_

#include <fuzzer/FuzzedDataProvider.h>
#include <grpcpp/channel.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/rpc/server.h"
#include "tests/fuzz/fuzz_check.h"
#include "tests/fuzz/fuzz_seed.h"

namespace strata::fuzz {

// A folder for what a target writes; run.sh removes it with all of $TMPDIR.
inline std::string ScratchFolder() {
  const char* parent = std::getenv("TMPDIR");
  const std::string folder =
      std::string(parent == nullptr ? "/tmp" : parent) + "/fuzz-" + std::to_string(getpid());
  std::filesystem::create_directories(folder);
  return folder;
}

// Calls whatever methods, with whatever messages and metadata, of a service behind a real server
// and connection. Every call must end, soon, with a status that is allowed and, if it is not OK,
// with a sentence; after each input the service must still answer a good call.
class RpcFuzzer {
 public:
  struct Options {
    // As in "/package.Service/Method"; besides them inputs call one that there is not.
    std::vector<std::string> methods;
    std::set<grpc::StatusCode> allowed;
    // Sent along unless the input has something else to send.
    std::string authorization;
    // Fails (FUZZ_CHECK) if the service does not answer a good call.
    std::function<void(const std::shared_ptr<grpc::Channel>&)> check_health;
  };

  // `service` is borrowed, for ever.
  RpcFuzzer(grpc::Service* service, Options options) : options_(std::move(options)) {
    rpc::ServerOptions server_options;
    server_options.listen = "unix:" + ScratchFolder() + "/socket";
    // Within what inputs have, so that longer messages are among them.
    server_options.max_receive_bytes = 2048;
    const std::array<grpc::Service*, 1> services = {service};
    auto server = rpc::Server::Start(server_options, services);
    FUZZ_CHECK(server.ok());
    server_ = *std::move(server);
    channel_ = grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials());
    options_.methods.push_back("/strata.v1.Nobody/Nothing");
  }

  void Run(FuzzedDataProvider& data) {
    for (int calls = 0; calls < 4 && data.remaining_bytes() > 0; ++calls) Call(data);
    options_.check_health(channel_);
  }

  // An input that calls method number `method` with `messages`.
  static std::string Seed(size_t method, size_t methods, const std::vector<std::string>& messages) {
    SeedWriter seed;
    seed.Number(method, 0, methods).Byte(0).Byte(0);
    seed.Number(messages.size(), 0, kMostMessages);
    for (const std::string& message : messages) seed.Text(message);
    return seed.Finish();
  }

 private:
  static constexpr int kMostMessages = 6;

  void Call(FuzzedDataProvider& data) {
    const auto last = static_cast<size_t>(options_.methods.size() - 1);
    const std::string& method = options_.methods[data.ConsumeIntegralInRange<size_t>(0, last)];
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(8));
    AddMetadata(data, data.ConsumeIntegral<uint8_t>(), context);
    // Mostly not.
    const bool cancelled = data.ConsumeIntegral<uint8_t>() > 240;
    const int messages = data.ConsumeIntegralInRange<int>(0, kMostMessages);

    grpc::GenericStub stub(channel_);
    grpc::CompletionQueue queue;
    const auto done = [&queue] {
      void* tag = nullptr;
      bool ok = false;
      return queue.Next(&tag, &ok) && ok;
    };
    const auto call = stub.PrepareCall(&context, method, &queue);
    call->StartCall(nullptr);
    bool open = done();
    for (int i = 0; open && i < messages; ++i) {
      const grpc::Slice slice(data.ConsumeRandomLengthString());
      call->Write(grpc::ByteBuffer(&slice, 1), nullptr);
      open = done();
    }
    if (open && cancelled) context.TryCancel();
    if (open && !cancelled) {
      call->WritesDone(nullptr);
      done();
    }
    grpc::ByteBuffer answer;
    do {
      call->Read(&answer, nullptr);
    } while (done());
    grpc::Status status;
    call->Finish(&status, nullptr);
    done();
    queue.Shutdown();
    while (done()) {
    }
    if (cancelled && status.error_code() == grpc::CANCELLED) return;
    if (!options_.allowed.contains(status.error_code())) {
      std::fprintf(stderr, "%s: %d %s\n", method.c_str(), static_cast<int>(status.error_code()),
                   status.error_message().c_str());
    }
    FUZZ_CHECK(options_.allowed.contains(status.error_code()));
    // gRPC itself says nothing of a method that there is not.
    FUZZ_CHECK(status.ok() || status.error_code() == grpc::UNIMPLEMENTED ||
               !status.error_message().empty());
  }

  // What clients may send beside the messages, in characters that HTTP/2 carries.
  void AddMetadata(FuzzedDataProvider& data, uint8_t kinds, grpc::ClientContext& context) const {
    if ((kinds & 1) == 0 && !options_.authorization.empty()) {
      context.AddMetadata("authorization", options_.authorization);
    }
    static constexpr std::array<const char*, 4> kKeys = {"authorization", "traceparent",
                                                         "x-request-id", "x-other"};
    for (size_t i = 0; i < kKeys.size(); ++i) {
      if ((kinds >> i & 1) == 0) continue;
      std::string value = data.ConsumeRandomLengthString(80);
      for (char& c : value) c = static_cast<char>(' ' + static_cast<unsigned char>(c) % 95);
      context.AddMetadata(kKeys[i], value);
    }
  }

  Options options_;
  std::unique_ptr<rpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

}  // namespace strata::fuzz

#endif  // STRATA_TESTS_FUZZ_RPC_FUZZ_H_
