#include "common/rpc/parsing_service.h"

#include <grpcpp/support/proto_buffer_reader.h>

#include "absl/strings/str_cat.h"

namespace strata::rpc {

grpc::Status ParseRequest(grpc::ByteBuffer& bytes, google::protobuf::Message& request) {
  if (!bytes.Valid()) {
    return grpc::Status(grpc::INVALID_ARGUMENT,
                        absl::StrCat("the call ended without a ", request.GetTypeName()));
  }
  bool parsed = false;
  {
    grpc::ProtoBufferReader reader(&bytes);
    parsed = reader.status().ok() && request.ParseFromZeroCopyStream(&reader);
  }
  const size_t size = bytes.Length();
  bytes.Clear();
  if (parsed) return grpc::Status::OK;
  return grpc::Status(
      grpc::INVALID_ARGUMENT,
      absl::StrCat("the message of ", size, " bytes is not a ", request.GetTypeName(),
                   ": it is cut short or damaged, or a string in it is not UTF-8"));
}

}  // namespace strata::rpc
