// Shows ThreadSanitizer what absl::Mutex orders. For the tsan preset alone.
//
// Debian's Abseil is not instrumented, so that ThreadSanitizer sees neither its locks nor its
// condition variables, and reports a race on everything that they guard. The definitions below
// take the place of the library's own for the whole process (gRPC's calls too), forward to
// them, and tell the sanitizer: locking comes after every earlier unlocking of that mutex.
//
// Conditions (Await, LockWhen) of other threads are evaluated inside Unlock, under the lock but
// after we have announced its release; reads within the forwarded calls are therefore ignored.

#include <dlfcn.h>

#include <cstdlib>
#include <string>

#include "absl/base/options.h"
#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"

extern "C" {
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
}

namespace {

#define STRATA_STRING_OF(x) #x
#define STRATA_STRING(x) STRATA_STRING_OF(x)

// The library's own definition of absl::CLASS::METHOD. `rest` is the mangled name from the
// class on, in which S0_ stands for the inline namespace; `kind` is "NK" for a const method.
template <typename Function>
Function Next(const char* kind, const char* rest) {
  const std::string space = STRATA_STRING(ABSL_OPTION_INLINE_NAMESPACE_NAME);
  const std::string name =
      std::string("_Z") + kind + "4absl" + std::to_string(space.size()) + space + rest;
  void* found = dlsym(RTLD_NEXT, name.c_str());
  if (found == nullptr) std::abort();  // Another Abseil than this file was written for.
  return reinterpret_cast<Function>(found);
}

template <typename Function>
Function Next(const char* rest) {
  return Next<Function>("N", rest);
}

template <typename Result, typename Object, typename... Arguments>
Result Forward(Result (*next)(Object*, Arguments...), Object* object, Arguments... arguments) {
  struct IgnoreReads {
    IgnoreReads() { AnnotateIgnoreReadsBegin(__FILE__, __LINE__); }
    ~IgnoreReads() { AnnotateIgnoreReadsEnd(__FILE__, __LINE__); }
  } ignore;
  return next(object, arguments...);
}

}  // namespace

namespace absl {
ABSL_NAMESPACE_BEGIN

void Mutex::Lock() {
  static const auto next = Next<void (*)(Mutex*)>("5Mutex4LockEv");
  Forward(next, this);
  __tsan_acquire(this);
}

bool Mutex::TryLock() {
  static const auto next = Next<bool (*)(Mutex*)>("5Mutex7TryLockEv");
  const bool locked = Forward(next, this);
  if (locked) __tsan_acquire(this);
  return locked;
}

void Mutex::Unlock() {
  static const auto next = Next<void (*)(Mutex*)>("5Mutex6UnlockEv");
  __tsan_release(this);
  Forward(next, this);
}

void Mutex::ReaderLock() {
  static const auto next = Next<void (*)(Mutex*)>("5Mutex10ReaderLockEv");
  Forward(next, this);
  __tsan_acquire(this);
}

bool Mutex::ReaderTryLock() {
  static const auto next = Next<bool (*)(Mutex*)>("5Mutex13ReaderTryLockEv");
  const bool locked = Forward(next, this);
  if (locked) __tsan_acquire(this);
  return locked;
}

void Mutex::ReaderUnlock() {
  static const auto next = Next<void (*)(Mutex*)>("5Mutex12ReaderUnlockEv");
  __tsan_release(this);
  Forward(next, this);
}

void Mutex::Await(const Condition& condition) {
  static const auto next =
      Next<void (*)(Mutex*, const Condition*)>("5Mutex5AwaitERKNS0_9ConditionE");
  __tsan_release(this);
  Forward(next, this, &condition);
  __tsan_acquire(this);
}

bool Mutex::AwaitWithTimeout(const Condition& condition, Duration timeout) {
  static const auto next = Next<bool (*)(Mutex*, const Condition*, Duration)>(
      "5Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE");
  __tsan_release(this);
  const bool fulfilled = Forward(next, this, &condition, timeout);
  __tsan_acquire(this);
  return fulfilled;
}

bool Mutex::AwaitWithDeadline(const Condition& condition, Time deadline) {
  static const auto next = Next<bool (*)(Mutex*, const Condition*, Time)>(
      "5Mutex17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE");
  __tsan_release(this);
  const bool fulfilled = Forward(next, this, &condition, deadline);
  __tsan_acquire(this);
  return fulfilled;
}

void Mutex::LockWhen(const Condition& condition) {
  static const auto next =
      Next<void (*)(Mutex*, const Condition*)>("5Mutex8LockWhenERKNS0_9ConditionE");
  Forward(next, this, &condition);
  __tsan_acquire(this);
}

bool Mutex::LockWhenWithTimeout(const Condition& condition, Duration timeout) {
  static const auto next = Next<bool (*)(Mutex*, const Condition*, Duration)>(
      "5Mutex19LockWhenWithTimeoutERKNS0_9ConditionENS0_8DurationE");
  const bool fulfilled = Forward(next, this, &condition, timeout);
  __tsan_acquire(this);
  return fulfilled;
}

bool Mutex::LockWhenWithDeadline(const Condition& condition, Time deadline) {
  static const auto next = Next<bool (*)(Mutex*, const Condition*, Time)>(
      "5Mutex20LockWhenWithDeadlineERKNS0_9ConditionENS0_4TimeE");
  const bool fulfilled = Forward(next, this, &condition, deadline);
  __tsan_acquire(this);
  return fulfilled;
}

void Mutex::ReaderLockWhen(const Condition& condition) {
  static const auto next =
      Next<void (*)(Mutex*, const Condition*)>("5Mutex14ReaderLockWhenERKNS0_9ConditionE");
  Forward(next, this, &condition);
  __tsan_acquire(this);
}

void CondVar::Wait(Mutex* mutex) {
  static const auto next = Next<void (*)(CondVar*, Mutex*)>("7CondVar4WaitEPNS0_5MutexE");
  __tsan_release(mutex);
  Forward(next, this, mutex);
  __tsan_acquire(mutex);
}

bool CondVar::WaitWithTimeout(Mutex* mutex, Duration timeout) {
  static const auto next = Next<bool (*)(CondVar*, Mutex*, Duration)>(
      "7CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE");
  __tsan_release(mutex);
  const bool timed_out = Forward(next, this, mutex, timeout);
  __tsan_acquire(mutex);
  return timed_out;
}

bool CondVar::WaitWithDeadline(Mutex* mutex, Time deadline) {
  static const auto next =
      Next<bool (*)(CondVar*, Mutex*, Time)>("7CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE");
  __tsan_release(mutex);
  const bool timed_out = Forward(next, this, mutex, deadline);
  __tsan_acquire(mutex);
  return timed_out;
}

// These two have a path without the mutex.
void Notification::Notify() {
  static const auto next = Next<void (*)(Notification*)>("12Notification6NotifyEv");
  __tsan_release(this);
  Forward(next, this);
}

void Notification::WaitForNotification() const {
  static const auto next =
      Next<void (*)(const Notification*)>("NK", "12Notification19WaitForNotificationEv");
  Forward(next, this);
  __tsan_acquire(const_cast<Notification*>(this));
}

bool Notification::WaitForNotificationWithTimeout(Duration timeout) const {
  static const auto next = Next<bool (*)(const Notification*, Duration)>(
      "NK", "12Notification30WaitForNotificationWithTimeoutENS0_8DurationE");
  const bool notified = Forward(next, this, timeout);
  if (notified) __tsan_acquire(const_cast<Notification*>(this));
  return notified;
}

bool BlockingCounter::DecrementCount() {
  static const auto next = Next<bool (*)(BlockingCounter*)>("15BlockingCounter14DecrementCountEv");
  __tsan_release(this);
  return Forward(next, this);
}

void BlockingCounter::Wait() {
  static const auto next = Next<void (*)(BlockingCounter*)>("15BlockingCounter4WaitEv");
  Forward(next, this);
  __tsan_acquire(this);
}

ABSL_NAMESPACE_END
}  // namespace absl
