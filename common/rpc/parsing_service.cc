#include "common/rpc/parsing_service.h"

#include <grpcpp/support/proto_buffer_reader.h>

#include "absl/strings/str_cat.h"

namespace strata::rpc {

grpc::Status ParseRequest(const grpc::ByteBuffer& bytes, google::protobuf::Message& request) {
  if (!bytes.Valid()) {
    return grpc::Status(grpc::INVALID_ARGUMENT,
                        absl::StrCat("the call ended without a ", request.GetTypeName()));
  }
  // The reader wants a buffer that it could change; this one shares the bytes.
  grpc::ByteBuffer readable(bytes);
  grpc::ProtoBufferReader reader(&readable);
  if (reader.status().ok() && request.ParseFromZeroCopyStream(&reader)) return grpc::Status::OK;
  return grpc::Status(
      grpc::INVALID_ARGUMENT,
      absl::StrCat("the message of ", bytes.Length(), " bytes is not a ", request.GetTypeName(),
                   ": it is cut short or damaged, or a string in it is not UTF-8"));
}

}  // namespace strata::rpc
