#ifndef STRATA_SERVICES_VERIFY_SERVER_ENGINE_STATUS_H_
#define STRATA_SERVICES_VERIFY_SERVER_ENGINE_STATUS_H_

#include "absl/status/status.h"
#include "services/verify/engine/status.h"

namespace strata::verify {

inline absl::Status ToAbslStatus(const engine::Status& status) {
  switch (status.code()) {
    case engine::ErrorCode::kOk:
      return absl::OkStatus();
    case engine::ErrorCode::kInvalidArgument:
      return absl::InvalidArgumentError(status.message());
    case engine::ErrorCode::kNotFound:
      return absl::NotFoundError(status.message());
    case engine::ErrorCode::kFailedPrecondition:
      return absl::FailedPreconditionError(status.message());
    case engine::ErrorCode::kResourceExhausted:
      return absl::ResourceExhaustedError(status.message());
    case engine::ErrorCode::kUnimplemented:
      return absl::UnimplementedError(status.message());
    case engine::ErrorCode::kInternal:
      break;
  }
  return absl::InternalError(status.message());
}

}  // namespace strata::verify

#endif  // STRATA_SERVICES_VERIFY_SERVER_ENGINE_STATUS_H_
