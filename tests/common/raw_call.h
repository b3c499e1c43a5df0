#ifndef STRATA_TESTS_COMMON_RAW_CALL_H_
#define STRATA_TESTS_COMMON_RAW_CALL_H_

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/byte_buffer.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace strata {

// Calls `method` ("/package.Service/Method") with `bytes` as its one message, whatever they are,
// and returns how the call ended. `*answer`, if that is asked, is the one response of an OK.
inline grpc::Status CallWithBytes(const std::shared_ptr<grpc::Channel>& channel,
                                  const std::string& method, const std::string& bytes,
                                  std::string* answer = nullptr) {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  grpc::CompletionQueue queue;
  const grpc::Slice slice(bytes);
  const auto call = stub.PrepareUnaryCall(&context, method, grpc::ByteBuffer(&slice, 1), &queue);
  call->StartCall();
  grpc::ByteBuffer response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  void* tag;
  bool ok = false;
  EXPECT_TRUE(queue.Next(&tag, &ok) && ok) << method;
  std::vector<grpc::Slice> slices;
  if (status.ok()) {
    EXPECT_TRUE(response.Dump(&slices).ok()) << method;
  }
  if (answer == nullptr) return status;
  answer->clear();
  for (const grpc::Slice& part : slices) {
    answer->append(reinterpret_cast<const char*>(part.begin()), part.size());
  }
  return status;
}

}  // namespace strata

#endif  // STRATA_TESTS_COMMON_RAW_CALL_H_
