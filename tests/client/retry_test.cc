#include "services/client/retry.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/base/retry_after.h"
#include "common/rpc/shutdown_signal.h"
#include "common/rpc/status.h"
#include "services/client/connection.h"

namespace strata::client {
namespace {

constexpr uint32_t kTokens = 12;

// What becomes of each call in turn, at whichever service; calls behind its end are answered whole.
class Script {
 public:
  struct Call {
    // How many tokens come before the end.
    uint32_t tokens = kTokens;
    absl::Status end;
    // Added to the ids.
    uint32_t offset = 0;
    // Waits for the call's cancellation before the end.
    bool hang = false;
  };

  void Add(Call call) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    calls_.push_back(std::move(call));
  }
  std::pair<Call, size_t> Next(const v1::GenerateRequest& request) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    const size_t number = requests_.size();
    requests_.push_back(request);
    return {number < calls_.size() ? calls_[number] : Call(), number};
  }
  std::vector<v1::GenerateRequest> requests() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return requests_;
  }

 private:
  mutable absl::Mutex mutex_;
  std::vector<Call> calls_ ABSL_GUARDED_BY(mutex_);
  std::vector<v1::GenerateRequest> requests_ ABSL_GUARDED_BY(mutex_);
};

// Answers 0, 1, 2, …
class ScriptedService final : public v1::GenerateService::Service {
 public:
  explicit ScriptedService(Script& script) : script_(script) {}

  int calls() const { return calls_; }

  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    ++calls_;
    const auto [call, number] = script_.Next(*request);
    // Cut in another way each time.
    const uint32_t chunk = 1 + static_cast<uint32_t>(number % 4);
    for (uint32_t i = 0; i < call.tokens;) {
      v1::GenerateResponse message;
      for (const uint32_t end = std::min(i + chunk, call.tokens); i < end; ++i) {
        message.add_token_ids(i + call.offset);
        absl::StrAppend(message.mutable_text(), i, " ");
      }
      writer->Write(message);
    }
    while (call.hang && !context->IsCancelled()) absl::SleepFor(absl::Milliseconds(5));
    if (!call.end.ok()) return rpc::ToGrpcStatus(call.end, *context);
    v1::GenerateResponse last;
    last.set_finish_reason(v1::FINISH_REASON_LENGTH);
    writer->Write(last);
    return grpc::Status::OK;
  }

 private:
  Script& script_;
  std::atomic<int> calls_ = 0;
};

// Listens where the system chooses, or at `address`.
struct RunningService {
  explicit RunningService(Script& script, const std::string& at = "127.0.0.1:0") : service(script) {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort(at, grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service);
    server = builder.BuildAndStart();
    address = absl::StrCat("127.0.0.1:", port);
  }
  ~RunningService() { Stop(); }
  void Stop() { server->Shutdown(std::chrono::system_clock::now()); }

  ScriptedService service;
  std::unique_ptr<grpc::Server> server;
  std::string address;
};

// Each test is a process of its own (ctest), so that the signals are blocked before any thread.
class RetryTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(rpc::BlockShutdownSignals().ok());
    interrupt_.emplace();
    first_.emplace(script_);
    Connect(first_->address);
  }

  void Connect(const std::string& address) {
    ConnectionFlags flags;
    flags.address = address;
    auto stub = client::Connect(flags);
    ASSERT_TRUE(stub.ok()) << stub.status();
    stub_ = *std::move(stub);
  }

  absl::StatusOr<Answer> Call() {
    shown_.clear();
    shown_text_.clear();
    return GenerateWithRetries(
        *stub_, request_, options_, *interrupt_, [this](const v1::GenerateResponse& message) {
          shown_.insert(shown_.end(), message.token_ids().begin(), message.token_ids().end());
          shown_text_ += message.text();
          if (on_message_) on_message_();
          return true;
        });
  }

  void ExpectWhole(const absl::StatusOr<Answer>& answer, int retries) {
    ASSERT_TRUE(answer.ok()) << answer.status();
    std::vector<uint32_t> ids;
    std::string text;
    for (uint32_t i = 0; i < kTokens; ++i) {
      ids.push_back(i);
      absl::StrAppend(&text, i, " ");
    }
    EXPECT_EQ(answer->token_ids, ids);
    EXPECT_EQ(answer->text, text);
    EXPECT_EQ(shown_, ids);
    EXPECT_EQ(shown_text_, text);
    EXPECT_EQ(answer->finish_reason, v1::FINISH_REASON_LENGTH);
    EXPECT_EQ(answer->retries, retries);
  }

  Script script_;
  std::optional<Interrupt> interrupt_;
  std::optional<RunningService> first_;
  std::unique_ptr<v1::GenerateService::Stub> stub_;
  v1::GenerateRequest request_;
  RetryOptions options_{.first_pause = absl::Milliseconds(1)};
  std::function<void()> on_message_;
  std::vector<uint32_t> shown_;
  std::string shown_text_;
};

TEST_F(RetryTest, GoesOnWhereTheAnswerBrokeOff) {
  script_.Add({.tokens = 5, .end = absl::UnavailableError("gone")});
  script_.Add({.tokens = 3, .end = absl::UnavailableError("gone again")});
  script_.Add({.tokens = 9, .end = absl::UnavailableError("and again")});
  ExpectWhole(Call(), 3);
}

TEST_F(RetryTest, AnAnswerThatIsNotInterruptedIsAskedForOnce) {
  ExpectWhole(Call(), 0);
  EXPECT_EQ(script_.requests().size(), 1U);
}

TEST_F(RetryTest, AnotherServiceTakesOverWhenOneIsCutOff) {
  RunningService second(script_);
  Connect(absl::StrCat("ipv4:", first_->address, ",", second.address));
  script_.Add({.tokens = 5, .end = absl::CancelledError(), .hang = true});
  std::optional<std::thread> cutter;
  on_message_ = [&] {
    if (cutter.has_value() || shown_.size() < 5) return;
    cutter.emplace([&] { (first_->service.calls() > 0 ? *first_ : second).Stop(); });
  };
  const auto answer = Call();
  cutter->join();
  ExpectWhole(answer, 1);
  EXPECT_EQ(first_->service.calls(), 1);
  EXPECT_EQ(second.service.calls(), 1);
}

TEST_F(RetryTest, NobodyThere) {
  first_->Stop();
  EXPECT_EQ(Call().status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(RetryTest, ComesBackWhenTheServiceDoes) {
  first_->Stop();
  options_.retries = 1000;
  options_.longest_pause = absl::Milliseconds(50);
  std::optional<RunningService> again;
  std::thread restart([&] {
    absl::SleepFor(absl::Milliseconds(200));
    again.emplace(script_, first_->address);
  });
  const auto answer = Call();
  restart.join();
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_GT(answer->retries, 0);
  ExpectWhole(answer, answer->retries);
}

TEST_F(RetryTest, OtherTokensAreAnError) {
  script_.Add({.tokens = 5, .end = absl::UnavailableError("gone")});
  script_.Add({.offset = 1});
  EXPECT_EQ(Call().status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(script_.requests().size(), 2U);
}

TEST_F(RetryTest, AShorterAnswerIsAnError) {
  script_.Add({.tokens = 5, .end = absl::UnavailableError("gone")});
  script_.Add({.tokens = 4});
  EXPECT_EQ(Call().status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(RetryTest, WhatTheServiceRefusesIsNotAskedAgain) {
  for (const absl::Status& error :
       {absl::InvalidArgumentError("no"), absl::ResourceExhaustedError("full"),
        absl::InternalError("forward pass failed"), absl::DeadlineExceededError("late")}) {
    const size_t before = script_.requests().size();
    script_.Add({.tokens = 2, .end = error});
    EXPECT_EQ(Call().status(), error);
    EXPECT_EQ(script_.requests().size(), before + 1) << error;
  }
}

TEST_F(RetryTest, BrokenTransports) {
  EXPECT_TRUE(WentAway(absl::UnavailableError("")));
  EXPECT_TRUE(WentAway(absl::InternalError("Received RST_STREAM with error code 2")));
  EXPECT_TRUE(WentAway(absl::UnknownError("Stream removed")));
  EXPECT_FALSE(WentAway(absl::InternalError("forward pass failed")));
  EXPECT_FALSE(WentAway(absl::OkStatus()));
}

TEST_F(RetryTest, GivesUpAfterSoManyRetries) {
  options_.retries = 2;
  for (int i = 0; i < 4; ++i) script_.Add({.tokens = 1, .end = absl::UnavailableError("gone")});
  EXPECT_EQ(Call().status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(script_.requests().size(), 3U);
  EXPECT_EQ(shown_, std::vector<uint32_t>{0});
}

TEST_F(RetryTest, WaitsAsLongAsTheServiceSays) {
  constexpr absl::Duration kWait = absl::Milliseconds(300);
  script_.Add({.tokens = 0, .end = WithRetryAfter(absl::UnavailableError("restarts"), kWait)});
  const auto start = std::chrono::steady_clock::now();
  ExpectWhole(Call(), 1);
  EXPECT_GE(std::chrono::steady_clock::now() - start, absl::ToChronoMilliseconds(kWait));
}

TEST_F(RetryTest, TheTimeoutIsForAllAttempts) {
  options_.retries = 1000;
  options_.timeout_s = 0.3;
  for (int i = 0; i < 1001; ++i) {
    script_.Add({.tokens = 1, .end = absl::UnavailableError("gone")});
  }
  options_.longest_pause = options_.first_pause = absl::Milliseconds(50);
  EXPECT_FALSE(Call().ok());
  EXPECT_LT(script_.requests().size(), 20U);
}

TEST_F(RetryTest, AllAttemptsHaveOneSeed) {
  request_.mutable_sampling()->set_temperature(1);
  script_.Add({.tokens = 5, .end = absl::UnavailableError("gone")});
  ExpectWhole(Call(), 1);
  const auto requests = script_.requests();
  ASSERT_EQ(requests.size(), 2U);
  EXPECT_TRUE(requests[0].sampling().has_seed());
  EXPECT_EQ(requests[0].sampling().seed(), requests[1].sampling().seed());
}

TEST_F(RetryTest, ASeedThatIsGivenStays) {
  request_.mutable_sampling()->set_temperature(1);
  request_.mutable_sampling()->set_seed(7);
  ExpectWhole(Call(), 0);
  EXPECT_EQ(script_.requests().front().sampling().seed(), 7U);
}

TEST_F(RetryTest, WithoutRetriesTheServiceDrawsTheSeed) {
  request_.mutable_sampling()->set_temperature(1);
  options_.retries = 0;
  ExpectWhole(Call(), 0);
  EXPECT_FALSE(script_.requests().front().sampling().has_seed());
}

TEST_F(RetryTest, CtrlCIsNotAServiceThatWentAway) {
  script_.Add({.tokens = 5, .end = absl::CancelledError(), .hang = true});
  on_message_ = [&] {
    if (shown_.size() == 5) kill(getpid(), SIGINT);
  };
  EXPECT_EQ(Call().status().code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(interrupt_->interrupted());
  EXPECT_EQ(script_.requests().size(), 1U);
}

}  // namespace
}  // namespace strata::client
