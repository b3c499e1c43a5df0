#include "common/auth/token_table.h"

#include <openssl/sha.h>
#include <spdlog/spdlog.h>

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/base/atomic_file.h"

namespace strata::auth {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxFileBytes = size_t{64} << 20;
constexpr size_t kMaxTenantBytes = 128;

std::string Digest(absl::string_view token) {
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(token.data()), token.size(),
         reinterpret_cast<unsigned char*>(digest.data()));
  return digest;
}

// A misspelt "expires" must not make a token that never expires.
absl::Status CheckKeys(const Json& object, std::initializer_list<absl::string_view> known) {
  if (!object.is_object()) return absl::InvalidArgumentError("is not an object");
  for (const auto& [key, value] : object.items()) {
    bool found = false;
    for (const absl::string_view name : known) found |= name == key;
    if (!found) {
      return absl::InvalidArgumentError(absl::StrCat("has the unknown key '", key, "'"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadText(const Json& entry, const char* key) {
  const auto it = entry.find(key);
  if (it == entry.end() || !it->is_string()) {
    return absl::InvalidArgumentError(absl::StrCat("has no string '", key, "'"));
  }
  return it->get<std::string>();
}

absl::Status ReadBound(const Json& quotas, const char* key, uint64_t& bound) {
  const auto it = quotas.find(key);
  if (it == quotas.end()) return absl::OkStatus();
  // A minute's worth must be countable in a double.
  constexpr uint64_t kMost = uint64_t{1} << 50;
  if (!it->is_number_unsigned() || it->get<uint64_t>() > kMost) {
    return absl::InvalidArgumentError(
        absl::StrCat("has a '", key, "' that is not a whole number from 0 to ", kMost));
  }
  bound = it->get<uint64_t>();
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadDigest(const Json& entry) {
  auto hex = ReadText(entry, "sha256");
  if (!hex.ok()) return hex;
  bool good = hex->size() == 2 * SHA256_DIGEST_LENGTH;
  for (const char c : *hex) good &= absl::ascii_isxdigit(c);
  if (!good) return absl::InvalidArgumentError("has a 'sha256' that is not 64 hex digits");
  std::string digest = absl::HexStringToBytes(*hex);
  // As a variable that was not set makes it; anybody could show that.
  if (digest == Digest("")) {
    return absl::InvalidArgumentError("has the 'sha256' of an empty token");
  }
  return digest;
}

absl::StatusOr<Caller> ReadCaller(const Json& entry, const Quotas& defaults) {
  Caller caller;
  caller.quotas = defaults;
  absl::Status status = CheckKeys(entry, {"sha256", "tenant", "expires", "quotas"});
  if (!status.ok()) return status;
  auto tenant = ReadText(entry, "tenant");
  if (!tenant.ok()) return tenant.status();
  if (tenant->empty() || tenant->size() > kMaxTenantBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "has a tenant of ", tenant->size(), " bytes, 1 to ", kMaxTenantBytes, " are allowed"));
  }
  caller.tenant = *std::move(tenant);
  if (entry.contains("expires")) {
    auto expires = ReadText(entry, "expires");
    if (!expires.ok()) return expires.status();
    std::string error;
    if (!absl::ParseTime(absl::RFC3339_full, *expires, &caller.expires, &error)) {
      return absl::InvalidArgumentError(
          "has an 'expires' that is not a time like 2027-01-31T00:00:00Z");
    }
  }
  if (const auto quotas = entry.find("quotas"); quotas != entry.end()) {
    status.Update(
        CheckKeys(*quotas, {"concurrent_requests", "requests_per_minute", "tokens_per_minute"}));
    if (!status.ok())
      return absl::InvalidArgumentError(absl::StrCat("'quotas' ", status.message()));
    status.Update(ReadBound(*quotas, "concurrent_requests", caller.quotas.concurrent_requests));
    status.Update(ReadBound(*quotas, "requests_per_minute", caller.quotas.requests_per_minute));
    status.Update(ReadBound(*quotas, "tokens_per_minute", caller.quotas.tokens_per_minute));
    if (!status.ok()) return status;
  }
  return caller;
}

absl::Status AtEntry(size_t i, const absl::Status& status) {
  return absl::InvalidArgumentError(absl::StrCat("tokens[", i, "] ", status.message()));
}

}  // namespace

absl::StatusOr<TokenTable> TokenTable::Parse(absl::string_view json, const Quotas& defaults) {
  const Json root = Json::parse(json.begin(), json.end(), nullptr, /*allow_exceptions=*/false);
  if (root.is_discarded()) return absl::InvalidArgumentError("it is not JSON");
  if (absl::Status status = CheckKeys(root, {"tokens"}); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("it ", status.message()));
  }
  const auto tokens = root.find("tokens");
  if (tokens == root.end() || !tokens->is_array()) {
    return absl::InvalidArgumentError("it has no list 'tokens'");
  }
  TokenTable table;
  // The quotas that a tenant's tokens state.
  absl::flat_hash_map<std::string, Quotas> stated;
  for (size_t i = 0; i < tokens->size(); ++i) {
    const Json& entry = (*tokens)[i];
    auto caller = ReadCaller(entry, defaults);
    if (!caller.ok()) return AtEntry(i, caller.status());
    auto digest = ReadDigest(entry);
    if (!digest.ok()) return AtEntry(i, digest.status());
    if (entry.contains("quotas")) {
      const auto [it, first] = stated.try_emplace(caller->tenant, caller->quotas);
      if (!first && it->second != caller->quotas) {
        return AtEntry(i, absl::InvalidArgumentError(
                              "states other quotas than an earlier entry of the same tenant"));
      }
    }
    if (!table.callers_.try_emplace(*std::move(digest), *std::move(caller)).second) {
      return AtEntry(i, absl::InvalidArgumentError("has the same 'sha256' as an earlier entry"));
    }
  }
  for (auto& [digest, caller] : table.callers_) {
    if (const auto it = stated.find(caller.tenant); it != stated.end()) caller.quotas = it->second;
  }
  return table;
}

const Caller* TokenTable::Find(absl::string_view token) const {
  const auto it = callers_.find(Digest(token));
  return it == callers_.end() ? nullptr : &it->second;
}

absl::StatusOr<std::unique_ptr<ReloadingTokens>> OpenTokenFile(const std::string& path,
                                                               const Quotas& defaults) {
  ReloadingTokens::Source source;
  source.read = [path] { return ReadWholeFile(path, kMaxFileBytes); };
  source.parse = [path, defaults](const std::string& text) -> absl::StatusOr<TokenTable> {
    auto table = TokenTable::Parse(text, defaults);
    if (!table.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("the token file '", path, "' is no good: ", table.status().message()));
    }
    spdlog::info("token file '{}': {} tokens", path, table->size());
    return table;
  };
  source.report = [](const absl::Status& status) {
    if (status.ok()) return;
    spdlog::error("{}; the tokens read before stay valid", std::string(status.message()));
  };
  return ReloadingTokens::Open(std::move(source));
}

}  // namespace strata::auth
