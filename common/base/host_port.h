#ifndef STRATA_COMMON_BASE_HOST_PORT_H_
#define STRATA_COMMON_BASE_HOST_PORT_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace strata {

struct HostPort {
  // A name or an address; that of IPv6 without its brackets.
  std::string host;
  uint16_t port = 0;
};

// What an address of the form HOST:PORT says; nothing unless it has a host, of characters that
// names and addresses have, and behind the last colon a number from 0 to 65535. Whether there is
// such a host is not asked.
std::optional<HostPort> ParseHostPort(absl::string_view address);

// `address`, which is HOST:PORT, with the port that was given for it, where it asked for any (0).
std::string WithPort(absl::string_view address, int port);

}  // namespace strata

#endif  // STRATA_COMMON_BASE_HOST_PORT_H_
