#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "services/verify/drafting/draft_source.h"

namespace strata::verify {
namespace {

class NoDraftSource final : public DraftSource {
 public:
  const char* mode() const override { return "off"; }
  bool available() const override { return false; }
  void Ask(std::span<const DraftQuery> queries) override { asked_ = queries.size(); }
  void Take(std::vector<DraftReply>& replies) override { replies.assign(asked_, DraftReply()); }
  void Close(uint64_t /*sequence_id*/, std::span<const TokenId> /*tokens*/) override {}

 private:
  size_t asked_ = 0;
};

}  // namespace

std::unique_ptr<DraftSource> NewNoDraftSource() { return std::make_unique<NoDraftSource>(); }

}  // namespace strata::verify
