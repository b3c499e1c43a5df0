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

namespace strata {

// Calls `method` ("/package.Service/Method") with `bytes` as its one message, whatever they are,
// and returns how the call ended. An answer in between fails the test.
inline grpc::Status CallWithBytes(const std::shared_ptr<grpc::Channel>& channel,
                                  const std::string& method, const std::string& bytes) {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  grpc::CompletionQueue queue;
  const auto call = stub.PrepareCall(&context, method, &queue);
  const auto wait = [&queue] {
    void* tag;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
  };
  call->StartCall(nullptr);
  EXPECT_TRUE(wait()) << method;
  const grpc::Slice slice(bytes);
  call->WriteLast(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(), nullptr);
  EXPECT_TRUE(wait()) << method;
  grpc::ByteBuffer answer;
  call->Read(&answer, nullptr);
  EXPECT_FALSE(wait()) << "an answer of " << method;
  grpc::Status status;
  call->Finish(&status, nullptr);
  EXPECT_TRUE(wait()) << method;
  return status;
}

}  // namespace strata

#endif  // STRATA_TESTS_COMMON_RAW_CALL_H_
