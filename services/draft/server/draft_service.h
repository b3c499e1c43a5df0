#ifndef STRATA_SERVICES_DRAFT_SERVER_DRAFT_SERVICE_H_
#define STRATA_SERVICES_DRAFT_SERVER_DRAFT_SERVICE_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>
#include <grpcpp/support/sync_stream.h>

#include <span>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/metrics/counter.h"
#include "common/metrics/histogram.h"
#include "common/rpc/parsing_service.h"
#include "common/trace/tracer.h"
#include "services/draft/hierarchy/drafter.h"
#include "services/draft/server/stream_registry.h"
#include "strata/v1/draft.pb.h"

namespace strata::draft {

// The RPC shell of a Drafter: statuses, handshakes and conversion, no drafting. Each stream is one
// session of the drafter and holds one server thread. Thread-safe.
class DraftService final : public rpc::ParsingService {
 public:
  // `drafter` is borrowed. `tokenizer_fingerprint` is the corpus's (empty without one) and
  // `version` the binary's: what GetDraftInfo tells. `tracer` is borrowed; null: no spans.
  DraftService(Drafter* drafter, std::string tokenizer_fingerprint, std::string version,
               trace::Tracer* tracer = nullptr);

  grpc::Status DraftOnce(grpc::ServerContext* context, const v1::DraftOnceRequest* request,
                         v1::DraftOnceResponse* response);
  grpc::Status GetDraftInfo(grpc::ServerContext* context, const v1::GetDraftInfoRequest* request,
                            v1::GetDraftInfoResponse* response);

  // Ends the streams, so that the server can shut down: with UNAVAILABLE after a message that is
  // being answered, else with CANCELLED. Verifiers open a new one elsewhere.
  void Drain() { streams_.Drain(); }

  // All streams so far.
  struct Counters {
    metrics::Counter streams;
    metrics::Gauge open_streams;
    // Of those, streams that were ended because of what came in: a tokenizer that is not the
    // corpus's, a message that is none.
    metrics::Counter refused_streams;
    metrics::Counter messages;
    // From a message's arrival until its answer is ready.
    metrics::SecondsHistogram service_seconds;
    // What was learned from a message, after its answer.
    metrics::SecondsHistogram learn_seconds;
    // Drafting ahead for one, after that.
    metrics::SecondsHistogram ahead_seconds;
  };
  const Counters& counters() const { return counters_; }

 private:
  // DraftStream.
  grpc::Status ServeStream(grpc::ServerContext* context,
                           grpc::ServerReaderWriter<v1::DraftResponse, grpc::ByteBuffer>* stream);
  // ServeStream, but for counting the stream.
  grpc::Status AnswerMessages(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<v1::DraftResponse, grpc::ByteBuffer>* stream);
  // Drafts ahead where the message asks for that: `response` is then what to send.
  bool DraftAhead(const v1::DraftRequest& request, uint64_t session,
                  std::span<const SequenceUpdate> updates, absl::Time start,
                  std::vector<SequenceAnswer>& answers, v1::DraftResponse& response);

  Drafter* const drafter_;
  const std::string tokenizer_fingerprint_;
  const std::string version_;
  trace::Tracer* const tracer_;
  StreamRegistry streams_;
  Counters counters_;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_SERVER_DRAFT_SERVICE_H_
