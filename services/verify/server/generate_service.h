#ifndef STRATA_SERVICES_VERIFY_SERVER_GENERATE_SERVICE_H_
#define STRATA_SERVICES_VERIFY_SERVER_GENERATE_SERVICE_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>
#include <grpcpp/support/sync_stream.h>

#include <string>

#include "common/rpc/parsing_service.h"
#include "services/verify/engine/engine.h"
#include "services/verify/scheduler/scheduler.h"
#include "services/verify/server/request_gate.h"
#include "services/verify/server/request_reader.h"
#include "services/verify/server/request_record.h"
#include "services/verify/server/request_tracing.h"
#include "strata/v1/generate.pb.h"

namespace strata::verify {

// What GetModelInfo says besides the engine's own.
struct ServiceIdentity {
  std::string model_id;
  std::string tokenizer_fingerprint;
  std::string version;
};

// The RPC shell. Every method asks the gate first (a test calls each one that the descriptor has).
// Thread-safe; one thread a call.
class GenerateService final : public rpc::ParsingService {
 public:
  // All borrowed. `gate` may be null: then everybody is let in, without quotas, as the tenant that
  // the request names.
  GenerateService(Scheduler& scheduler, const engine::Engine& engine, const RequestReader& reader,
                  ServiceIdentity identity, RequestGate* gate = nullptr,
                  const RequestTracing& tracing = {});

  grpc::Status GetModelInfo(grpc::ServerContext* context, const v1::GetModelInfoRequest* request,
                            v1::GetModelInfoResponse* response);
  grpc::Status Tokenize(grpc::ServerContext* context, const v1::TokenizeRequest* request,
                        v1::TokenizeResponse* response);

  const RequestCounters& counters() const { return counters_; }
  const ServiceIdentity& identity() const { return identity_; }

 private:
  // Generate.
  grpc::Status ServeGenerate(grpc::ServerContext* context, const grpc::ByteBuffer* bytes,
                             grpc::ServerWriter<v1::GenerateResponse>* writer);
  // ServeGenerate, but for what is told of it.
  grpc::Status Answer(grpc::ServerContext& context, const v1::GenerateRequest& request,
                      grpc::ServerWriter<v1::GenerateResponse>& writer, RequestRecord& record);
  // What the gate or a quota said no with.
  grpc::Status Refuse(const absl::Status& why, grpc::ServerContext& context);

  Scheduler& scheduler_;
  const engine::Engine& engine_;
  const RequestReader& reader_;
  const ServiceIdentity identity_;
  RequestGate* const gate_;
  const RequestTracing tracing_;
  RequestCounters counters_;
};

}  // namespace strata::verify

#endif  // STRATA_SERVICES_VERIFY_SERVER_GENERATE_SERVICE_H_
