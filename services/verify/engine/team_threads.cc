#include "services/verify/engine/team_threads.h"

#include <system_error>
#include <thread>
#include <utility>

#include "services/verify/engine/spin.h"

namespace strata::engine {
namespace {

// Some 20 us: work that follows at once finds the helpers awake.
constexpr int kSpins = 400;

}  // namespace

struct TeamThreads::Helper {
  // Counts the calls. On a line of its own.
  alignas(64) std::atomic<uint32_t> calls = 0;
  std::thread thread;
};

void TeamThreads::Grow(int count, bool spin) {
  spins_ = spin ? kSpins : 0;
  while (this->count() < count) {
    auto helper = std::make_unique<Helper>();
    const int member = this->count() + 1;
    try {
      helper->thread = std::thread([this, &served = *helper, member] { Serve(served, member); });
    } catch (const std::system_error&) {
      return;
    }
    helpers_.push_back(std::move(helper));
  }
}

TeamThreads::TeamThreads() = default;

TeamThreads::~TeamThreads() {
  RunAll(count() + 1, nullptr, nullptr);
  for (const auto& helper : helpers_) helper->thread.join();
}

void TeamThreads::RunAll(int members, Call call, const void* body) {
  call_ = call;
  body_ = body;
  const auto called = static_cast<uint32_t>(members - 1);
  left_.store(called, std::memory_order_relaxed);
  for (uint32_t i = 0; i < called; ++i) {
    std::atomic<uint32_t>& calls = helpers_[i]->calls;
    calls.fetch_add(1, std::memory_order_release);
    calls.notify_one();
  }
  if (call == nullptr) return;
  call(body, 0);
  for (uint32_t left = called; left > 0; left = left_.load(std::memory_order_acquire)) {
    AwaitChange(left_, left, spins_);
  }
}

void TeamThreads::Serve(Helper& helper, int member) {
  for (uint32_t served = 0;; ++served) {
    AwaitChange(helper.calls, served, spins_);
    if (call_ == nullptr) return;
    call_(body_, member);
    if (left_.fetch_sub(1, std::memory_order_acq_rel) == 1) left_.notify_one();
  }
}

}  // namespace strata::engine
