#ifndef STRATA_COMMON_RPC_REQUEST_PARSING_H_
#define STRATA_COMMON_RPC_REQUEST_PARSING_H_

#include <google/protobuf/message.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/method_handler.h>
#include <grpcpp/support/status.h>
#include <grpcpp/support/sync_stream.h>

// Handlers that parse requests themselves. gRPC's generated ones answer bytes that are no such
// message with INTERNAL and an empty sentence, and in a stream of requests with nothing at all; a
// client's fault should be told as one.
//
// Put one in the place of a method's own with grpc::Service::MarkMethodStreamed (the way of gRPC's
// generated code), in the constructor of the service: gRPC then hands over the messages as bytes.
namespace strata::rpc {

// Takes the bytes out of `bytes`. INVALID_ARGUMENT with the message's name if they cannot be
// parsed: cut short, damaged, or with a string that is not UTF-8.
grpc::Status ParseRequest(grpc::ByteBuffer& bytes, google::protobuf::Message& request);

// Reads and parses the one request of a call. INVALID_ARGUMENT also if none came (of a message over
// the receive limit gRPC itself says RESOURCE_EXHAUSTED, whatever is returned here).
template <typename Response>
grpc::Status ReadRequest(grpc::ServerReaderWriter<Response, grpc::ByteBuffer>& stream,
                         google::protobuf::Message& request) {
  grpc::ByteBuffer bytes;
  if (!stream.Read(&bytes)) {
    return grpc::Status(grpc::INVALID_ARGUMENT, "the call ended without a request");
  }
  return ParseRequest(bytes, request);
}

// A handler that calls `serve` for each call, with its messages as bytes. `service` is borrowed.
template <typename Service, typename Response>
grpc::internal::MethodHandler* NewStreamHandler(
    Service* service,
    grpc::Status (Service::*serve)(grpc::ServerContext*,
                                   grpc::ServerReaderWriter<Response, grpc::ByteBuffer>*)) {
  return new grpc::internal::BidiStreamingHandler<Service, grpc::ByteBuffer, Response>(
      [serve](Service* self, grpc::ServerContext* context,
              grpc::ServerReaderWriter<Response, grpc::ByteBuffer>* stream) {
        return (self->*serve)(context, stream);
      },
      service);
}

// A handler for a method of one request and one response. `service` is borrowed.
template <typename Service, typename Request, typename Response>
grpc::internal::MethodHandler* NewUnaryHandler(Service* service,
                                               grpc::Status (Service::*serve)(grpc::ServerContext*,
                                                                              const Request*,
                                                                              Response*)) {
  return new grpc::internal::BidiStreamingHandler<Service, grpc::ByteBuffer, Response>(
      [serve](Service* self, grpc::ServerContext* context,
              grpc::ServerReaderWriter<Response, grpc::ByteBuffer>* stream) {
        Request request;
        grpc::Status status = ReadRequest(*stream, request);
        if (!status.ok()) return status;
        Response response;
        status = (self->*serve)(context, &request, &response);
        if (status.ok()) stream->WriteLast(response, grpc::WriteOptions());
        return status;
      },
      service);
}

}  // namespace strata::rpc

#endif  // STRATA_COMMON_RPC_REQUEST_PARSING_H_
