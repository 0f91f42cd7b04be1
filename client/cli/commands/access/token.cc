#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "client/cli/commands/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "common/base/flags.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

constexpr char kCreateJoin[] = R"(Make a token with which new workers join

Examples:
  espalier worker token create --id edge-1 --file edge-1.token      for one worker
  espalier worker token create --prefix edge --uses 50 --file join.token
  espalier-worker --join-token-file join.token --tls-dir tls --coordinator ...

The token is shown once, or written into --file. Workers of a token with --prefix get ids such as
edge-k3v9qa. Send it only over channels that nobody else reads.)";

constexpr char kCreateUser[] = R"(Make a token that stands for a user in every call

Examples:
  espalier user token create ada --role submitter --file ada.token
  espalier job list --ca ca.pem --token-file ada.token

The token is shown once, or written into --file. It is good wherever a user's certificate is.)";

constexpr char kList[] = R"(List the tokens that are good, without their secrets)";
constexpr char kRevoke[] = R"(Make a token worthless, at once)";

constexpr absl::Duration kDay = absl::Hours(24);

struct Wanted {
  v1::Token token;
  std::string role = "submitter";
  std::string id;
  std::string prefix;
  int uses = 1;
  double days = 0;
  std::string file;
  bool keep = false;
};

std::string KindOf(const v1::Token& token) {
  return token.kind() == v1::Token::KIND_JOIN ? "join" : "user";
}

std::string RoleWord(v1::AccessRole role) {
  constexpr std::string_view kPrefix = "ACCESS_ROLE_";
  std::string word = v1::AccessRole_Name(role).substr(kPrefix.size());
  for (char& letter : word) letter = static_cast<char>(std::tolower(letter));
  return word;
}

std::string ForWhom(const v1::Token& token) {
  if (token.kind() == v1::Token::KIND_USER) return token.user();
  return token.any_suffix() ? token.worker_id() + "-*" : token.worker_id();
}

// For this user alone, and nothing that is there already.
absl::Status WriteSecret(const std::string& path, const std::string& secret) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) {
    return base::FailedPrecondition("FILE_NOT_WRITTEN", "expected a new file at '" + path +
                                                            "' for the token, found that it "
                                                            "cannot be made: " +
                                                            std::strerror(errno) +
                                                            "; name another one, or remove it");
  }
  const std::string line = secret + "\n";
  const bool written =
      write(fd, line.data(), line.size()) == static_cast<ssize_t>(line.size()) && fsync(fd) == 0;
  const std::string why = written ? "" : std::strerror(errno);
  close(fd);
  if (written) return absl::OkStatus();
  unlink(path.c_str());
  return base::FailedPrecondition("FILE_NOT_WRITTEN", "expected to write the token to '" + path +
                                                          "', found that this fails: " + why);
}

void PrintTokens(Context& context, const google::protobuf::RepeatedPtrField<v1::Token>& tokens) {
  Table table({{"NAME"}, {"KIND"}, {"FOR"}, {"ROLE"}, {"USES"}, {"ENDS"}, {"MADE BY"}});
  for (const v1::Token& token : tokens) {
    const bool joins = token.kind() == v1::Token::KIND_JOIN;
    table.Add({token.name(), KindOf(token), ForWhom(token),
               joins ? "worker" : RoleWord(token.role()),
               joins ? std::to_string(token.uses_left()) : "-", AbsoluteTime(token.expire_time()),
               token.creator().empty() ? "-" : token.creator()});
  }
  table.Print(context.out, context.out_terminal);
}

absl::StatusOr<int> Create(Context& context, const Wanted& wanted) {
  // Looked at first: a token that nobody sees is of no use.
  if (!wanted.file.empty() && access(wanted.file.c_str(), F_OK) == 0) {
    if (wanted.keep) {
      context.err << "There is a token in " << wanted.file << " already\n";
      return kExitDone;
    }
    return base::FailedPrecondition("FILE_NOT_WRITTEN",
                                    "expected a new file at '" + wanted.file +
                                        "' for the token, found one; name another, or remove it");
  }
  ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
  ESPALIER_ASSIGN_OR_RETURN(v1::CreateTokenResponse made,
                            client->CreateToken(wanted.token, kDay * wanted.days));
  if (!wanted.file.empty()) {
    const absl::Status written = WriteSecret(wanted.file, made.secret());
    if (!written.ok()) {
      (void)client->RevokeToken(made.token().name());
      return written;
    }
    made.clear_secret();
  }
  if (context.PrintAsData(made)) return kExitDone;
  google::protobuf::RepeatedPtrField<v1::Token> tokens;
  *tokens.Add() = made.token();
  if (wanted.file.empty()) {
    // Alone on standard output, for scripts.
    context.out << base::Printable(made.secret()) << "\n";
    context.err << fmt::format("{} is good until {}; it is not shown again\n",
                               base::Printable(made.token().name()),
                               AbsoluteTime(made.token().expire_time()));
    return kExitDone;
  }
  PrintTokens(context, tokens);
  context.err << fmt::format("The token is in {}, which only this user may read\n", wanted.file);
  return kExitDone;
}

void AddList(CLI::App& parent, Command& chosen, v1::Token::Kind kind) {
  parent.add_subcommand("list", kList)->callback([&chosen, kind] {
    chosen = [kind](Context& context) -> absl::StatusOr<int> {
      constexpr size_t kLimit = 10'000;
      ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
      ESPALIER_ASSIGN_OR_RETURN(v1::ListTokensResponse all, client->ListTokens(kLimit));
      v1::ListTokensResponse tokens;
      for (v1::Token& token : *all.mutable_tokens()) {
        if (token.kind() == kind) *tokens.add_tokens() = std::move(token);
      }
      if (context.PrintAsData(tokens)) return kExitDone;
      PrintTokens(context, tokens.tokens());
      return kExitDone;
    };
  });
}

void AddRevoke(CLI::App& parent, Command& chosen) {
  AddOfOne(parent, chosen, "revoke", kRevoke, "TOKEN", "tokens",
           [](Context& context, const std::string& name) -> absl::StatusOr<int> {
             ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
             ESPALIER_RETURN_IF_ERROR(client->RevokeToken(name));
             context.err << "Revoked " << name << "\n";
             return kExitDone;
           });
}

void AddCommon(CLI::App& command, Wanted& wanted, double days) {
  wanted.days = days;
  command.add_option("--days", wanted.days, "Days that the token is good for")
      ->check(base::Between(0.0001, 366.0))
      ->capture_default_str();
  command.add_option("--file", wanted.file, "New file for the token, which is not shown then")
      ->type_name("FILE");
  command.add_flag("--keep", wanted.keep, "With --file: do nothing where the file is there");
}

}  // namespace

void AddWorkerToken(CLI::App& parent, Command& chosen) {
  auto wanted = std::make_shared<Wanted>();
  CLI::App* create = parent.add_subcommand("create", kCreateJoin);
  auto* id = create->add_option("--id", wanted->id, "Id of the worker that joins");
  create->add_option("--prefix", wanted->prefix, "What the ids of the workers that join begin with")
      ->excludes(id);
  create->add_option("--uses", wanted->uses, "How many workers may join")
      ->check(base::Between(1, 100'000))
      ->capture_default_str();
  AddCommon(*create, *wanted, 1);
  create->callback([&chosen, wanted] {
    v1::Token& token = wanted->token;
    token.set_kind(v1::Token::KIND_JOIN);
    token.set_any_suffix(wanted->id.empty());
    token.set_worker_id(wanted->id.empty() ? wanted->prefix : wanted->id);
    token.set_uses_left(wanted->uses);
    chosen = [wanted](Context& context) { return Create(context, *wanted); };
  });
  AddList(parent, chosen, v1::Token::KIND_JOIN);
  AddRevoke(parent, chosen);
}

void AddUserToken(CLI::App& parent, Command& chosen) {
  auto wanted = std::make_shared<Wanted>();
  CLI::App* create = parent.add_subcommand("create", kCreateUser);
  create->add_option("USER", wanted->id, "Name of the user")->required();
  create->add_option("--role", wanted->role, "admin, submitter or viewer")
      ->check(base::OneOf({"admin", "submitter", "viewer"}))
      ->capture_default_str();
  AddCommon(*create, *wanted, 30);
  create->callback([&chosen, wanted] {
    v1::Token& token = wanted->token;
    token.set_kind(v1::Token::KIND_USER);
    token.set_user(wanted->id);
    token.set_role(wanted->role == "admin"    ? v1::ACCESS_ROLE_ADMIN
                   : wanted->role == "viewer" ? v1::ACCESS_ROLE_VIEWER
                                              : v1::ACCESS_ROLE_SUBMITTER);
    chosen = [wanted](Context& context) { return Create(context, *wanted); };
  });
  AddList(parent, chosen, v1::Token::KIND_USER);
  AddRevoke(parent, chosen);
}

}  // namespace espalier::cli
