#include "common/auth/tenant_quotas.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/retry_after.h"

namespace strata::auth {
namespace {

constexpr size_t kFirstSweep = 1024;
// When one of the requests under way will end is not known.
constexpr absl::Duration kConcurrencyRetry = absl::Seconds(1);

absl::Duration SteadyTime() {
  return absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
}

}  // namespace

void TenantQuotas::Bucket::Drain(absl::Duration time, uint64_t per_minute) {
  if (per_minute == 0) {
    used = 0;
    return;
  }
  const double minutes = absl::FDivDuration(time, absl::Minutes(1));
  used = std::max(0.0, used - minutes * static_cast<double>(per_minute));
}

absl::Duration TenantQuotas::Bucket::Take(double amount, uint64_t per_minute) {
  if (per_minute == 0) return absl::ZeroDuration();
  const double over = used + amount - static_cast<double>(per_minute);
  // Forgives the rounding of what was drained: whoever waits as long as told is let in.
  if (over > 1e-9 * static_cast<double>(per_minute)) {
    return absl::Minutes(over / static_cast<double>(per_minute));
  }
  used += amount;
  return absl::ZeroDuration();
}

TenantQuotas::TenantQuotas() : TenantQuotas(&SteadyTime) {}

TenantQuotas::TenantQuotas(Clock clock) : clock_(std::move(clock)), sweep_at_(kFirstSweep) {}

TenantQuotas::Request::Request(Request&& other) noexcept
    : owner_(std::exchange(other.owner_, nullptr)),
      tenant_(other.tenant_),
      quotas_(other.quotas_),
      taken_(other.taken_),
      used_(other.used_) {}

TenantQuotas::Request::~Request() {
  if (owner_ != nullptr) owner_->End(tenant_, taken_ - std::min(taken_, used_));
}

absl::Status TenantQuotas::Request::TakeTokens(uint64_t tokens) {
  absl::Status status = owner_->TakeTokens(tenant_, quotas_, tokens);
  if (status.ok()) taken_ = tokens;
  return status;
}

absl::StatusOr<TenantQuotas::Request> TenantQuotas::Begin(const std::string& tenant,
                                                          const Quotas& quotas) {
  absl::MutexLock lock(&mutex_);
  if (tenants_.size() >= sweep_at_) Sweep();
  const auto [it, added] = tenants_.try_emplace(tenant);
  Tenant& state = it->second;
  if (added) state.drained_at = clock_();
  Drain(state, quotas);
  if (quotas.concurrent_requests > 0 && state.requests_under_way >= quotas.concurrent_requests) {
    return WithRetryAfter(
        absl::ResourceExhaustedError(absl::StrCat("the tenant has ", state.requests_under_way,
                                                  " requests under way, at most ",
                                                  quotas.concurrent_requests, " are allowed")),
        kConcurrencyRetry);
  }
  const absl::Duration wait = state.requests.Take(1, quotas.requests_per_minute);
  if (wait > absl::ZeroDuration()) {
    return WithRetryAfter(
        absl::ResourceExhaustedError(absl::StrCat(
            "the tenant has used up its ", quotas.requests_per_minute, " requests a minute")),
        wait);
  }
  ++state.requests_under_way;
  return Request(this, tenant, quotas);
}

absl::Status TenantQuotas::TakeTokens(const std::string& tenant, const Quotas& quotas,
                                      uint64_t tokens) {
  const uint64_t most = quotas.tokens_per_minute;
  if (most == 0) return absl::OkStatus();
  if (tokens > most) {
    return absl::OutOfRangeError(absl::StrCat("prompt and max_tokens come to ", tokens,
                                              " tokens, more than the ", most,
                                              " a minute that the tenant has"));
  }
  absl::MutexLock lock(&mutex_);
  Tenant& state = tenants_[tenant];
  Drain(state, quotas);
  const absl::Duration wait = state.tokens.Take(static_cast<double>(tokens), most);
  if (wait == absl::ZeroDuration()) return absl::OkStatus();
  return WithRetryAfter(
      absl::ResourceExhaustedError(
          absl::StrCat("the tenant has used ", static_cast<uint64_t>(state.tokens.used), " of its ",
                       most, " tokens a minute; prompt and max_tokens come to ", tokens, " more")),
      wait);
}

void TenantQuotas::End(const std::string& tenant, uint64_t unused_tokens) {
  absl::MutexLock lock(&mutex_);
  // There as long as a request is under way.
  Tenant& state = tenants_[tenant];
  --state.requests_under_way;
  state.tokens.used = std::max(0.0, state.tokens.used - static_cast<double>(unused_tokens));
}

size_t TenantQuotas::size() const {
  absl::MutexLock lock(&mutex_);
  return tenants_.size();
}

void TenantQuotas::Drain(Tenant& tenant, const Quotas& quotas) {
  const absl::Duration now = clock_();
  const absl::Duration time = now - std::exchange(tenant.drained_at, now);
  tenant.quotas = quotas;
  tenant.requests.Drain(time, quotas.requests_per_minute);
  tenant.tokens.Drain(time, quotas.tokens_per_minute);
}

void TenantQuotas::Sweep() {
  for (auto it = tenants_.begin(); it != tenants_.end();) {
    const auto tenant = it++;
    Tenant& state = tenant->second;
    Drain(state, Quotas(state.quotas));
    if (state.requests_under_way == 0 && state.requests.used == 0 && state.tokens.used == 0) {
      tenants_.erase(tenant);
    }
  }
  sweep_at_ = std::max(kFirstSweep, 2 * tenants_.size());
}

}  // namespace strata::auth
