#include "services/client/interrupt.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/rpc/shutdown_signal.h"
#include "services/client/call.h"
#include "services/client/exit_codes.h"

namespace strata::client {
namespace {

void Sleep() { std::this_thread::sleep_for(std::chrono::milliseconds(5)); }

// Generates for ever.
class EndlessService final : public v1::GenerateService::Service {
 public:
  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest*,
                        grpc::ServerWriter<v1::GenerateResponse>*) override {
    ++live_;
    while (!context->IsCancelled()) Sleep();
    --live_;
    return grpc::Status::CANCELLED;
  }
  int live() const { return live_; }

 private:
  std::atomic<int> live_ = 0;
};

// Each test is a process of its own (ctest), so that the signals are blocked before any thread.
class InterruptTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(rpc::BlockShutdownSignals().ok());
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    stub_ = v1::GenerateService::NewStub(grpc::CreateChannel("127.0.0.1:" + std::to_string(port),
                                                             grpc::InsecureChannelCredentials()));
  }
  void TearDown() override {
    if (server_) server_->Shutdown(std::chrono::system_clock::now());
  }

  absl::Status Call(Interrupt& interrupt) {
    return Generate(*stub_, v1::GenerateRequest(), 0, interrupt, nullptr).status();
  }

  EndlessService service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::GenerateService::Stub> stub_;
};

TEST_F(InterruptTest, ASignalCancelsAllCallsAndThoseThatFollow) {
  constexpr int kCalls = 8;
  Interrupt interrupt;
  std::atomic<int> cancelled = 0;
  std::vector<std::thread> callers;
  for (int i = 0; i < kCalls; ++i) {
    callers.emplace_back([&] {
      // The second one begins after the signal.
      for (int call = 0; call < 2; ++call) {
        if (absl::IsCancelled(Call(interrupt))) ++cancelled;
      }
    });
  }
  while (service_.live() < kCalls) Sleep();
  EXPECT_FALSE(interrupt.interrupted());
  ASSERT_EQ(kill(getpid(), SIGINT), 0);
  for (std::thread& caller : callers) caller.join();
  EXPECT_TRUE(interrupt.interrupted());
  EXPECT_EQ(cancelled, 2 * kCalls);
  EXPECT_EQ(ReportError(absl::CancelledError("x"), interrupt, kServiceError), kInterrupted);
}

TEST_F(InterruptTest, ACallThatEndedIsLeftAlone) {
  Interrupt interrupt;
  grpc::ClientContext kept;
  const Interrupt::Scope scope(interrupt, kept);
  {
    grpc::ClientContext gone;
    const Interrupt::Scope inner(interrupt, gone);
  }
  ASSERT_EQ(kill(getpid(), SIGTERM), 0);
  while (!interrupt.interrupted()) Sleep();
}

TEST(InterruptDeathTest, WithoutACallTheProcessEnds) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(
      {
        if (!rpc::BlockShutdownSignals().ok()) _exit(1);
        Interrupt interrupt;
        kill(getpid(), SIGINT);
        while (true) Sleep();
      },
      testing::ExitedWithCode(kInterrupted), "");
}

}  // namespace
}  // namespace strata::client
