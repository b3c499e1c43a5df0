#ifndef STRATA_COMMON_BASE_RELOADING_H_
#define STRATA_COMMON_BASE_RELOADING_H_

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

namespace strata {

// A value made of files that may be replaced at any time: read again when it is asked for, but
// at most once an interval. What cannot be read or used leaves the value as it was. Contents
// are compared, not times: a file replaced within one tick of the clock is noticed too.
// Thread-safe; one caller reads, the others meanwhile get the value in use.
template <typename Raw, typename Value>
class Reloading {
 public:
  struct Source {
    // The files as they are now. Raw has ==.
    std::function<absl::StatusOr<Raw>()> read;
    std::function<absl::StatusOr<Value>(const Raw&)> parse;
    // Told once of each change: OK if the new value is in use, or why the old one stays.
    std::function<void(const absl::Status&)> report;
    std::chrono::steady_clock::duration interval = std::chrono::seconds(1);
  };

  // Reads for the first time; `report` is not told of that.
  static absl::StatusOr<std::unique_ptr<Reloading>> Open(Source source) {
    absl::StatusOr<Raw> raw = source.read();
    if (!raw.ok()) return raw.status();
    absl::StatusOr<Value> value = source.parse(*raw);
    if (!value.ok()) return value.status();
    return std::unique_ptr<Reloading>(new Reloading(
        std::move(source), *std::move(raw), std::make_shared<const Value>(*std::move(value))));
  }

  // Never null. The same object as long as the files hold the same.
  std::shared_ptr<const Value> Get() ABSL_LOCKS_EXCLUDED(mutex_, reading_) {
    {
      absl::MutexLock lock(&mutex_);
      const auto now = std::chrono::steady_clock::now();
      if (now < next_look_) return value_;
      next_look_ = now + source_.interval;
    }
    // Only with an interval shorter than a read would anybody wait here.
    absl::MutexLock reading(&reading_);
    Look();
    absl::MutexLock lock(&mutex_);
    return value_;
  }

 private:
  Reloading(Source source, Raw raw, std::shared_ptr<const Value> value)
      : source_(std::move(source)), raw_(std::move(raw)), value_(std::move(value)) {
    next_look_ = std::chrono::steady_clock::now() + source_.interval;
  }

  void Look() ABSL_EXCLUSIVE_LOCKS_REQUIRED(reading_) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::StatusOr<Raw> raw = source_.read();
    if (!raw.ok()) return Keep(raw.status());
    if (*raw == raw_) {
      last_error_.clear();
      return;
    }
    absl::StatusOr<Value> value = source_.parse(*raw);
    if (!value.ok()) return Keep(value.status());
    last_error_.clear();
    raw_ = *std::move(raw);
    {
      absl::MutexLock lock(&mutex_);
      value_ = std::make_shared<const Value>(*std::move(value));
    }
    source_.report(absl::OkStatus());
  }

  void Keep(const absl::Status& error) ABSL_EXCLUSIVE_LOCKS_REQUIRED(reading_) {
    if (error.message() == last_error_) return;
    last_error_ = std::string(error.message());
    source_.report(error);
  }

  const Source source_;
  absl::Mutex reading_ ABSL_ACQUIRED_BEFORE(mutex_);
  // What the value in use was made of.
  Raw raw_ ABSL_GUARDED_BY(reading_);
  std::string last_error_ ABSL_GUARDED_BY(reading_);

  absl::Mutex mutex_;
  std::shared_ptr<const Value> value_ ABSL_GUARDED_BY(mutex_);
  std::chrono::steady_clock::time_point next_look_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace strata

#endif  // STRATA_COMMON_BASE_RELOADING_H_
