#include "tests/bench/replay/draft_driver.h"

#include "absl/strings/str_cat.h"

namespace strata::replay {

absl::Status CheckAnswer(const draft::SequenceUpdate& update, const draft::SequenceAnswer& answer,
                         int64_t vocab_size) {
  const auto fail = [&](auto&&... why) {
    return absl::InternalError(
        absl::StrCat("the drafter's answer for sequence ", update.sequence_id, ": ", why...));
  };
  if (answer.sequence_id != update.sequence_id || answer.epoch != update.epoch) {
    return fail("it is for sequence ", answer.sequence_id, " epoch ", answer.epoch);
  }
  switch (answer.status) {
    case draft::SequenceStatus::kOk:
      break;
    case draft::SequenceStatus::kUnknown:
      return fail("it no longer holds the sequence");
    default:
      return fail(answer.message);
  }
  if (answer.position != update.position + update.tokens.size()) {
    return fail("it is for length ", answer.position, " instead of ",
                update.position + update.tokens.size());
  }
  const absl::Status valid =
      ValidateDraftTree(answer.tree, vocab_size, static_cast<int>(update.node_budget));
  return valid.ok() ? valid : fail(valid.message());
}

}  // namespace strata::replay
