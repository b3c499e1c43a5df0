#ifndef STRATA_COMMON_RPC_PARSING_SERVICE_H_
#define STRATA_COMMON_RPC_PARSING_SERVICE_H_

#include <google/protobuf/message.h>
#include <grpcpp/impl/codegen/proto_utils.h>
#include <grpcpp/impl/rpc_service_method.h>
#include <grpcpp/impl/service_type.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/method_handler.h>
#include <grpcpp/support/status.h>
#include <grpcpp/support/sync_stream.h>

namespace strata::rpc {

// INVALID_ARGUMENT with the message's name if there are no bytes or they cannot be parsed: cut
// short, damaged, or with a string that is not UTF-8.
grpc::Status ParseRequest(const grpc::ByteBuffer& bytes, google::protobuf::Message& request);

// A service that parses requests itself. gRPC's generated ones answer bytes that are no such
// message with INTERNAL and an empty sentence, and in a stream of requests with nothing at all; a
// client's fault should be told as one. As with those, a call of one request takes a thread once
// the request is there, not before.
//
// Derive from it in place of the generated Service, and add the methods in the constructor; what is
// not added is UNIMPLEMENTED. `name` is "/package.Service/Method" and must outlive the service, as
// must `self`, which is the service.
class ParsingService : public grpc::Service {
 protected:
  // One request, one response.
  template <typename Self, typename Request, typename Response>
  void AddUnary(const char* name, Self* self,
                grpc::Status (Self::*serve)(grpc::ServerContext*, const Request*, Response*)) {
    using Handler = grpc::internal::RpcMethodHandler<Self, grpc::ByteBuffer, Response>;
    Add(name, grpc::internal::RpcMethod::NORMAL_RPC,
        new Handler(
            [serve](Self* service, grpc::ServerContext* context, const grpc::ByteBuffer* bytes,
                    Response* response) {
              Request request;
              grpc::Status status = ParseRequest(*bytes, request);
              return status.ok() ? (service->*serve)(context, &request, response) : status;
            },
            self));
  }

  // One request, which `serve` parses, and any number of responses.
  template <typename Self, typename Response>
  void AddServerStreaming(const char* name, Self* self,
                          grpc::Status (Self::*serve)(grpc::ServerContext*, const grpc::ByteBuffer*,
                                                      grpc::ServerWriter<Response>*)) {
    using Handler = grpc::internal::ServerStreamingHandler<Self, grpc::ByteBuffer, Response>;
    Add(name, grpc::internal::RpcMethod::SERVER_STREAMING,
        new Handler(
            [serve](Self* service, grpc::ServerContext* context, const grpc::ByteBuffer* bytes,
                    grpc::ServerWriter<Response>* writer) {
              return (service->*serve)(context, bytes, writer);
            },
            self));
  }

  // A stream of requests, which `serve` parses, and one of responses.
  template <typename Self, typename Response>
  void AddStreaming(
      const char* name, Self* self,
      grpc::Status (Self::*serve)(grpc::ServerContext*,
                                  grpc::ServerReaderWriter<Response, grpc::ByteBuffer>*)) {
    using Handler = grpc::internal::BidiStreamingHandler<Self, grpc::ByteBuffer, Response>;
    Add(name, grpc::internal::RpcMethod::BIDI_STREAMING,
        new Handler(
            [serve](Self* service, grpc::ServerContext* context,
                    grpc::ServerReaderWriter<Response, grpc::ByteBuffer>* stream) {
              return (service->*serve)(context, stream);
            },
            self));
  }

 private:
  void Add(const char* name, grpc::internal::RpcMethod::RpcType type,
           grpc::internal::MethodHandler* handler) {
    AddMethod(new grpc::internal::RpcServiceMethod(name, type, handler));
  }
};

}  // namespace strata::rpc

#endif  // STRATA_COMMON_RPC_PARSING_SERVICE_H_
