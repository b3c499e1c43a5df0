#include "services/client/request_flags.h"

namespace strata::client {

void AddRequestFlags(CLI::App& app, RequestFlags& flags) {
  app.add_option("--max-tokens", flags.max_tokens,
                 "Most tokens to generate; 0: the service's default")
      ->capture_default_str();
  app.add_option("--temperature", flags.temperature, "0 is greedy")->capture_default_str();
  app.add_option("--top-k", flags.top_k, "Keep the k most likely tokens; 0: all")
      ->capture_default_str();
  app.add_option("--top-p", flags.top_p,
                 "Keep the most likely tokens that sum to this probability");
  app.add_option("--min-p", flags.min_p,
                 "Keep tokens at least this many times as likely as the most likely")
      ->capture_default_str();
  app.add_option("--repetition-penalty", flags.repetition_penalty,
                 "Divides positive logits of tokens seen, multiplies negative ones; 1: none");
  app.add_option("--presence-penalty", flags.presence_penalty,
                 "Subtracted from the logits of tokens in the output")
      ->capture_default_str();
  app.add_option("--frequency-penalty", flags.frequency_penalty,
                 "Subtracted once for each occurrence in the output")
      ->capture_default_str();
  app.add_option("--seed", flags.seed, "Same seed, same tokens; unset: the service draws one");
  app.add_option("--stop", flags.stop, "End before this text appears; may be repeated")
      ->allow_extra_args(false);
  app.add_option("--stop-token-id", flags.stop_token_ids, "End after this token; may be repeated")
      ->allow_extra_args(false);
  app.add_flag("--ignore-eos", flags.ignore_eos, "Go on past the model's end-of-sequence tokens");
  app.add_option("--tenant", flags.tenant, "Whose model tier to draft from and to teach");
}

void FillRequest(const RequestFlags& flags, v1::GenerateRequest& request) {
  v1::SamplingParameters& sampling = *request.mutable_sampling();
  sampling.set_temperature(flags.temperature);
  sampling.set_top_k(flags.top_k);
  if (flags.top_p) sampling.set_top_p(*flags.top_p);
  sampling.set_min_p(flags.min_p);
  if (flags.repetition_penalty) sampling.set_repetition_penalty(*flags.repetition_penalty);
  sampling.set_presence_penalty(flags.presence_penalty);
  sampling.set_frequency_penalty(flags.frequency_penalty);
  if (flags.seed) sampling.set_seed(*flags.seed);
  request.set_max_tokens(flags.max_tokens);
  for (const std::string& stop : flags.stop) request.add_stop(stop);
  for (const uint32_t id : flags.stop_token_ids) request.add_stop_token_ids(id);
  request.set_ignore_eos(flags.ignore_eos);
  request.set_tenant(flags.tenant);
}

void SetChat(const std::string& system, const std::string& user, v1::ChatPrompt& chat) {
  if (!system.empty()) {
    v1::ChatMessage& message = *chat.add_messages();
    message.set_role("system");
    message.set_content(system);
  }
  v1::ChatMessage& message = *chat.add_messages();
  message.set_role("user");
  message.set_content(user);
}

}  // namespace strata::client
