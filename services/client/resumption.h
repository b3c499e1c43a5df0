#ifndef STRATA_SERVICES_CLIENT_RESUMPTION_H_
#define STRATA_SERVICES_CLIENT_RESUMPTION_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "strata/v1/generate.pb.h"

namespace strata::client {

// Joins the streams of one request into one answer. The same request gives the same tokens, so a
// stream that broke is followed by one that begins anew: what is already there is compared and left
// out. How a stream is cut into messages does not matter. Not thread-safe.
class Resumption {
 public:
  // The next message is the first of another stream.
  void Restart();
  // Leaves in `message` what no earlier stream had brought. DATA_LOSS if it differs from what one
  // had: two services that do not give the same tokens.
  absl::Status Take(v1::GenerateResponse& message);
  // DATA_LOSS if an earlier stream went further than this one, which is whole.
  absl::Status CheckWhole() const;

 private:
  std::vector<uint32_t> tokens_;
  std::string text_;
  // How much of them this stream has brought.
  size_t stream_tokens_ = 0;
  size_t stream_bytes_ = 0;
};

}  // namespace strata::client

#endif  // STRATA_SERVICES_CLIENT_RESUMPTION_H_
