#ifndef STRATA_SERVICES_CLIENT_REQUEST_FLAGS_H_
#define STRATA_SERVICES_CLIENT_REQUEST_FLAGS_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "strata/v1/generate.pb.h"

namespace strata::client {

// The part of a GenerateRequest that `generate` and `bench` share: all but the
// prompt and what concerns speculation. Values go to the service unchecked: it
// knows what is allowed, and says so.
struct RequestFlags {
  uint32_t max_tokens = 0;
  float temperature = 0;
  uint32_t top_k = 0;
  std::optional<float> top_p;
  float min_p = 0;
  std::optional<float> repetition_penalty;
  float presence_penalty = 0;
  float frequency_penalty = 0;
  std::optional<uint64_t> seed;
  std::vector<std::string> stop;
  std::vector<uint32_t> stop_token_ids;
  bool ignore_eos = false;
  std::string tenant;
};

// `flags` must outlive `app`.
void AddRequestFlags(CLI::App& app, RequestFlags& flags);
void FillRequest(const RequestFlags& flags, v1::GenerateRequest& request);

// Makes the prompt a chat: an optional system message, then `user`.
void SetChat(const std::string& system, const std::string& user, v1::ChatPrompt& chat);

}  // namespace strata::client

#endif  // STRATA_SERVICES_CLIENT_REQUEST_FLAGS_H_
