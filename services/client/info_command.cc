#include <cstdio>
#include <memory>
#include <string>

#include "common/rpc/status.h"
#include "services/client/call.h"
#include "services/client/commands.h"
#include "services/client/connection.h"
#include "services/client/exit_codes.h"
#include "services/client/prompts.h"
#include "services/client/report.h"
#include "services/client/request_flags.h"

namespace strata::client {
namespace {

using Json = nlohmann::ordered_json;

Json ToJson(const v1::GetModelInfoResponse& info) {
  return {{"model_id", info.model_id()},
          {"architecture", info.architecture()},
          {"vocab_size", info.vocab_size()},
          {"max_sequence_length", info.max_sequence_length()},
          {"dtype", info.dtype()},
          {"weights", info.weights()},
          {"device", info.device()},
          {"tokenizer_fingerprint", info.tokenizer_fingerprint()},
          {"eos_token_ids",
           std::vector<uint32_t>(info.eos_token_ids().begin(), info.eos_token_ids().end())},
          {"exact", info.exact()},
          {"exactness_notes",
           std::vector<std::string>(info.exactness_notes().begin(), info.exactness_notes().end())},
          {"kv_pages_total", info.kv_pages_total()},
          {"kv_pages_free", info.kv_pages_free()},
          {"kv_pages_kept", info.kv_pages_kept()},
          {"kv_page_tokens", info.kv_page_tokens()},
          {"max_batch", info.max_batch()},
          {"draft_mode", info.draft_mode()},
          {"draft_available", info.draft_available()},
          {"version", info.version()}};
}

int RunInfo(const ConnectionFlags& connection, bool json, Interrupt& interrupt) {
  const auto stub = Connect(connection);
  if (!stub.ok()) return ReportError(stub.status(), interrupt, kUsage);
  grpc::ClientContext context;
  SetTimeout(connection.timeout_s, context);
  const Interrupt::Scope scope(interrupt, context);
  v1::GetModelInfoResponse info;
  const absl::Status status =
      rpc::FromGrpcStatus((*stub)->GetModelInfo(&context, v1::GetModelInfoRequest(), &info));
  if (!status.ok()) return ReportError(status, interrupt, kServiceError);
  const Json fields = ToJson(info);
  if (json) {
    std::printf("%s\n", Dump(fields).c_str());
    return kSuccess;
  }
  for (const auto& [name, value] : fields.items()) {
    const std::string text = value.is_string()
                                 ? value.get<std::string>()
                                 : value.dump(-1, ' ', false, Json::error_handler_t::replace);
    std::printf("%-22s %s\n", name.c_str(), text.c_str());
  }
  return kSuccess;
}

struct TokenizeFlags {
  ConnectionFlags connection;
  std::string text = "-";
  bool chat = false;
  std::string system;
  bool json = false;
};

int RunTokenize(const TokenizeFlags& flags, Interrupt& interrupt) {
  std::string text = flags.text;
  if (text == "-") {
    auto read = ReadText("-");
    if (!read.ok()) return ReportError(read.status(), interrupt, kUsage);
    text = *std::move(read);
  }
  absl::Status valid = CheckUtf8("the text", text);
  valid.Update(CheckUtf8("--system", flags.system));
  if (!valid.ok()) return ReportError(valid, interrupt, kUsage);
  v1::TokenizeRequest request;
  if (flags.chat || !flags.system.empty()) {
    SetChat(flags.system, text, *request.mutable_chat());
  } else {
    request.set_text(text);
  }
  const auto stub = Connect(flags.connection);
  if (!stub.ok()) return ReportError(stub.status(), interrupt, kUsage);
  grpc::ClientContext context;
  SetTimeout(flags.connection.timeout_s, context);
  const Interrupt::Scope scope(interrupt, context);
  v1::TokenizeResponse response;
  const absl::Status status = rpc::FromGrpcStatus((*stub)->Tokenize(&context, request, &response));
  if (!status.ok()) return ReportError(status, interrupt, kServiceError);
  const std::vector<uint32_t> ids(response.ids().begin(), response.ids().end());
  if (flags.json) {
    std::printf("%s\n", Dump({{"ids", ids}}).c_str());
    return kSuccess;
  }
  for (size_t i = 0; i < ids.size(); ++i) std::printf(i == 0 ? "%u" : " %u", ids[i]);
  std::printf("\n");
  return kSuccess;
}

}  // namespace

Command AddInfoCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand("info", "Shows the model that a service serves");
  struct Flags {
    ConnectionFlags connection;
    bool json = false;
  };
  const auto flags = std::make_shared<Flags>();
  command->add_flag("--json", flags->json, "As JSON");
  AddConnectionFlags(*command, flags->connection);
  return {command, [flags](Interrupt& interrupt) {
            return RunInfo(flags->connection, flags->json, interrupt);
          }};
}

Command AddTokenizeCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand("tokenize", "Shows the token ids of a text or a chat");
  const auto flags = std::make_shared<TokenizeFlags>();
  command->add_option("TEXT", flags->text, "The text; - or none: standard input");
  command->add_flag("--chat", flags->chat, "The text is a user's message");
  command->add_option("--system", flags->system, "System message; implies --chat");
  command->add_flag("--json", flags->json, "As JSON");
  AddConnectionFlags(*command, flags->connection);
  return {command, [flags](Interrupt& interrupt) { return RunTokenize(*flags, interrupt); }};
}

}  // namespace strata::client
