// strata_clock_jump.so: preloaded into a process, it lets the process' clock jump.
//
// STRATA_CLOCK_FILE names a file with eight bytes: nanoseconds (int64) that are added to the
// machine's time of day, from the moment they are written. The monotonic clock stays. A wait until
// a time of day ends when that is reached by the jumping clock, as the kernel does when the clock
// is set. libfaketime does not know the futex calls in which Abseil waits.

#include <dlfcn.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdlib>
#include <ctime>

namespace {

constexpr int64_t kSecond = 1'000'000'000;
// How soon a wait sees that the clock has jumped.
constexpr int64_t kLookInterval = 10'000'000;

using Syscall = long (*)(long, ...);
using ClockGettime = int (*)(clockid_t, timespec*);

template <typename Function>
Function Next(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

Syscall NextSyscall() {
  static const auto next = Next<Syscall>("syscall");
  return next;
}

int64_t Offset() {
  static const std::atomic<int64_t>* const offset = [] {
    static std::atomic<int64_t> none = 0;
    const char* path = std::getenv("STRATA_CLOCK_FILE");
    const int file = path == nullptr ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return &none;
    void* map = mmap(nullptr, sizeof(none), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    return map == MAP_FAILED ? &none : static_cast<std::atomic<int64_t>*>(map);
  }();
  return offset->load(std::memory_order_relaxed);
}

int64_t ToNanos(const timespec& time) { return time.tv_sec * kSecond + time.tv_nsec; }
timespec ToTimespec(int64_t nanos) { return {nanos / kSecond, nanos % kSecond}; }

int64_t MachineTime() {
  static const auto next = Next<ClockGettime>("clock_gettime");
  timespec now;
  next(CLOCK_REALTIME, &now);
  return ToNanos(now);
}

}  // namespace

// NOLINTBEGIN(readability-inconsistent-declaration-parameter-name): glibc's names are reserved.
extern "C" {

int clock_gettime(clockid_t clock, timespec* out) noexcept {
  static const auto next = Next<ClockGettime>("clock_gettime");
  const int result = next(clock, out);
  if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
    *out = ToTimespec(ToNanos(*out) + Offset());
  }
  return result;
}

int gettimeofday(timeval* out, void* /*zone*/) noexcept {
  const int64_t now = MachineTime() + Offset();
  out->tv_sec = now / kSecond;
  out->tv_usec = now % kSecond / 1000;
  return 0;
}

time_t time(time_t* out) noexcept {
  const time_t now = (MachineTime() + Offset()) / kSecond;
  if (out != nullptr) *out = now;
  return now;
}

long syscall(long number, ...) noexcept {
  va_list list;
  va_start(list, number);
  long a[6];
  for (long& argument : a) argument = va_arg(list, long);
  va_end(list);
  const Syscall next = NextSyscall();
  const auto* until = reinterpret_cast<const timespec*>(a[3]);  // NOLINT(performance-no-int-to-ptr)
  const bool waits_for_time_of_day = number == SYS_futex &&
                                     (a[1] & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET &&
                                     (a[1] & FUTEX_CLOCK_REALTIME) != 0 && until != nullptr;
  if (!waits_for_time_of_day) return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  while (true) {
    const int64_t now = MachineTime();
    const int64_t left = ToNanos(*until) - (now + Offset());
    if (left <= 0) {
      errno = ETIMEDOUT;
      return -1;
    }
    const timespec look = ToTimespec(now + std::min(left, kLookInterval));
    const long result = next(number, a[0], a[1], a[2], &look, a[4], a[5]);
    if (result == 0 || errno != ETIMEDOUT) return result;
  }
}

}  // extern "C"
// NOLINTEND(readability-inconsistent-declaration-parameter-name)
