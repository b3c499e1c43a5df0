#ifndef STRATA_SERVICES_VERIFY_ENGINE_STATUS_H_
#define STRATA_SERVICES_VERIFY_ENGINE_STATUS_H_

#include <string>
#include <utility>
#include <variant>

// The engine builds against LibTorch alone, without Abseil; these two carry its
// errors. services/verify/server turns them into absl::Status.
namespace strata::engine {

enum class ErrorCode {
  kOk,
  kInvalidArgument,
  kNotFound,
  kFailedPrecondition,
  kResourceExhausted,
  kUnimplemented,
  kInternal,
};

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(ErrorCode code, std::string message) : code_(code), message_(std::move(message)) {}
  bool ok() const { return code_ == ErrorCode::kOk; }
  ErrorCode code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  ErrorCode code_ = ErrorCode::kOk;
  std::string message_;
};

// A value or the reason why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  // Implicit, so that functions may return either.
  Result(T value) : state_(std::move(value)) {}         // NOLINT(google-explicit-constructor)
  Result(Status status) : state_(std::move(status)) {}  // NOLINT(google-explicit-constructor)
  bool ok() const { return std::holds_alternative<T>(state_); }
  // Requires !ok() to say anything of use.
  Status status() const { return ok() ? Status() : std::get<Status>(state_); }
  // Requires ok().
  T& value() { return std::get<T>(state_); }
  const T& value() const { return std::get<T>(state_); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  T& operator*() { return value(); }
  const T& operator*() const { return value(); }

 private:
  std::variant<T, Status> state_;
};

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_STATUS_H_
