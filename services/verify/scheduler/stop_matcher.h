#ifndef STRATA_SERVICES_VERIFY_SCHEDULER_STOP_MATCHER_H_
#define STRATA_SERVICES_VERIFY_SCHEDULER_STOP_MATCHER_H_

#include <string>
#include <string_view>
#include <vector>

namespace strata::verify {

// Looks for stop strings in text that comes piece by piece (a piece is a token's text), and holds
// back what may be the beginning of one. Of stop strings that become complete with one piece, the
// one that begins first counts. Not thread-safe.
class StopMatcher {
 public:
  // Empty strings are ignored.
  explicit StopMatcher(std::vector<std::string> stops);

  // Appends to `released` the text that is now certain to stand ahead of any stop
  // string. True if a stop string is complete: the text ahead of the first is then
  // released, the rest dropped. No Push after that.
  bool Push(std::string_view text, std::string* released);
  // Releases what is held back.
  void Finish(std::string* released);

 private:
  std::vector<std::string> stops_;
  std::string held_;
};

}  // namespace strata::verify

#endif  // STRATA_SERVICES_VERIFY_SCHEDULER_STOP_MATCHER_H_
