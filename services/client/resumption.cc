#include "services/client/resumption.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace strata::client {

void Resumption::Restart() {
  stream_tokens_ = 0;
  stream_bytes_ = 0;
}

absl::Status Resumption::Take(v1::GenerateResponse& message) {
  const auto& ids = message.token_ids();
  const size_t known = std::min<size_t>(ids.size(), tokens_.size() - stream_tokens_);
  for (size_t i = 0; i < known; ++i) {
    const uint32_t id = ids[static_cast<int>(i)];
    if (id == tokens_[stream_tokens_ + i]) continue;
    return absl::DataLossError(absl::StrCat("asked again, the service gave token ", id,
                                            " where it had given ", tokens_[stream_tokens_ + i],
                                            " (token ", stream_tokens_ + i, " of the answer)"));
  }
  const size_t known_bytes = std::min(message.text().size(), text_.size() - stream_bytes_);
  if (text_.compare(stream_bytes_, known_bytes, message.text(), 0, known_bytes) != 0) {
    return absl::DataLossError(
        absl::StrCat("asked again, the service gave another text after byte ", stream_bytes_));
  }
  tokens_.insert(tokens_.end(), ids.begin() + static_cast<int>(known), ids.end());
  text_.append(message.text(), known_bytes);
  stream_tokens_ += ids.size();
  stream_bytes_ += message.text().size();

  message.mutable_token_ids()->ExtractSubrange(0, static_cast<int>(known), nullptr);
  message.mutable_text()->erase(0, known_bytes);
  // There are as many as tokens, or none.
  const int known_logprobs = std::min(static_cast<int>(known), message.logprobs_size());
  message.mutable_logprobs()->DeleteSubrange(0, known_logprobs);
  return absl::OkStatus();
}

absl::Status Resumption::CheckWhole() const {
  if (stream_tokens_ == tokens_.size() && stream_bytes_ == text_.size()) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("asked again, the service ended the answer after ",
                                          stream_tokens_, " tokens, where it had given ",
                                          tokens_.size()));
}

}  // namespace strata::client
