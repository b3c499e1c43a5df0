#ifndef STRATA_TESTS_BENCH_DRAFT_DRAFT_CLIENT_H_
#define STRATA_TESTS_BENCH_DRAFT_DRAFT_CLIENT_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "strata/v1/draft.grpc.pb.h"

namespace strata::draft_bench {

// A connection of its own: stubs made one after another do not share one.
absl::StatusOr<std::unique_ptr<v1::DraftService::Stub>> Connect(const std::string& address);

absl::StatusOr<v1::GetDraftInfoResponse> GetInfo(v1::DraftService::Stub& stub);

// One DraftStream of a verifier, which waits for each answer. Thread-compatible.
class DraftStream {
 public:
  DraftStream(v1::DraftService::Stub& stub, v1::Handshake handshake);
  // As Cut.
  ~DraftStream();
  DraftStream(const DraftStream&) = delete;
  DraftStream& operator=(const DraftStream&) = delete;

  // Adds the step, and to the first message the handshake. An error ends the stream.
  absl::Status Exchange(v1::DraftRequest& request, v1::DraftResponse& response);
  // The same without waiting for the answer, for a stream that is to be cut.
  absl::Status Send(v1::DraftRequest& request);
  // Half-closes and waits for the service's status.
  absl::Status Finish();
  // Ends as when the verifier dies: without a last word.
  void Cut();

 private:
  absl::Status End();

  grpc::ClientContext context_;
  v1::Handshake handshake_;
  // After context_, which it uses. Null when the stream has ended.
  std::unique_ptr<grpc::ClientReaderWriter<v1::DraftRequest, v1::DraftResponse>> stream_;
  uint64_t step_ = 0;
};

}  // namespace strata::draft_bench

#endif  // STRATA_TESTS_BENCH_DRAFT_DRAFT_CLIENT_H_
