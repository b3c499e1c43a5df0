#include "common/rpc/bearer.h"

#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace strata::rpc {
namespace {

constexpr char kHeader[] = "authorization";
constexpr absl::string_view kScheme = "Bearer ";
constexpr size_t kMaxTokenBytes = 4096;

class BearerSender final : public grpc::experimental::Interceptor {
 public:
  explicit BearerSender(const std::string& value) : value_(value) {}

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(
            grpc::experimental::InterceptionHookPoints::PRE_SEND_INITIAL_METADATA)) {
      methods->GetSendInitialMetadata()->insert({kHeader, value_});
    }
    methods->Proceed();
  }

 private:
  const std::string& value_;
};

class BearerSenderFactory final : public grpc::experimental::ClientInterceptorFactoryInterface {
 public:
  explicit BearerSenderFactory(absl::string_view token) : value_(absl::StrCat(kScheme, token)) {}

  grpc::experimental::Interceptor* CreateClientInterceptor(
      grpc::experimental::ClientRpcInfo*) override {
    return new BearerSender(value_);
  }

 private:
  const std::string value_;
};

}  // namespace

absl::StatusOr<auth::Caller> Authenticate(const grpc::ServerContextBase& context,
                                          const auth::TokenTable& tokens, absl::Time now) {
  const auto [begin, end] = context.client_metadata().equal_range(kHeader);
  if (begin == end) {
    return absl::UnauthenticatedError(
        "the call has no token: send the metadata 'authorization: Bearer TOKEN'");
  }
  const absl::string_view value(begin->second.data(), begin->second.size());
  // Of two it would not be clear whose call it is.
  const bool single = std::next(begin) == end;
  if (!single || !absl::StartsWithIgnoreCase(value, kScheme)) {
    return absl::UnauthenticatedError("the call's authorization is not accepted");
  }
  const auth::Caller* caller = tokens.Find(value.substr(kScheme.size()));
  if (caller == nullptr) {
    return absl::UnauthenticatedError("the call's authorization is not accepted");
  }
  if (now >= caller->expires) return absl::UnauthenticatedError("the call's token has expired");
  return *caller;
}

absl::Status CheckBearerToken(const std::string& token) {
  bool good = !token.empty() && token.size() <= kMaxTokenBytes;
  for (const char c : token) good &= absl::ascii_isgraph(static_cast<unsigned char>(c));
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("the token has ", token.size(),
                                                 " bytes; it must have 1 to ", kMaxTokenBytes,
                                                 " printable ASCII characters and no spaces"));
}

std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface> NewBearerSender(
    const std::string& token) {
  return std::make_unique<BearerSenderFactory>(token);
}

}  // namespace strata::rpc
