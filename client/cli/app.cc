#include "client/cli/app.h"

#include <algorithm>
#include <array>
#include <map>
#include <string_view>

#include "client/cli/commands/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/help.h"
#include "client/cli/output.h"
#include "common/base/status.h"
#include "common/config/text.h"
#include "common/io/standard_output.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace espalier::cli {
namespace {

constexpr char kDescription[] = R"(Espalier trains sparse neural networks across machines.

Examples:
  espalier demo                                  see what it does, in a minute
  espalier up --workers 4                        run a cluster on this machine
  espalier init data/wine                        write a job file for your data
  espalier job submit job.yaml --watch           train, and show every round
  espalier job list                              all jobs
  espalier method describe set                   parameters of a method
  espalier checkpoint get checkpoints/my-job-20  download the trained model
  espalier predict my-job-20 new.csv             ask it about new examples)";

constexpr char kEnvironment[] =
    R"(The options may also follow the command. Help on one: espalier job submit -h

Environment:
  ESPALIER_SERVER             Address of the coordinator, host:port
  ESPALIER_TLS_DIR            Folder of certificates, from `espalier cert`
  ESPALIER_CA, _CERT, _KEY    PEM files for TLS
  ESPALIER_TOKEN_FILE         File with a token
  ESPALIER_DATA               Data root of `espalier up`
  NO_COLOR                    No colours when set
  COLUMNS                     Width of tables, in place of the terminal's
  GRPC_VERBOSITY              ERROR or DEBUG: gRPC's own messages, too
  ESPALIER_DEBUGGABLE         1: debuggers and core files may see memory

Exit codes: 0 done, 1 unexpected, 2 usage or invalid argument, 3 not found,
4 denied, 5 conflict, 6 unavailable or timeout, 7 waited for a job that FAILED
or was CANCELLED, 8 limit reached, 130 interrupted.)";

// The one whose result is a table of numbers.
constexpr std::array<std::string_view, 2> kCsvCommands = {"espalier job rounds",
                                                          "espalier job features"};

CLI::App* AddGroup(CLI::App& app, const std::string& name, const std::string& description) {
  CLI::App* group = app.add_subcommand(name, description);
  group->require_subcommand(1);
  return group;
}

// All commands and options, bound to `options` and `chosen`.
class Parser {
 public:
  Parser() : app_(kDescription, "espalier") {
    app_.formatter(std::make_shared<HelpFormatter>());
    app_.footer(kEnvironment);
    app_.set_help_flag("-h,--help", "Show this help");
    app_.set_version_flag("--version", VersionLine(), "Show the version of this program");
    app_.require_subcommand(1);
    // Options of the root may follow the command; set before commands are added, which inherit it.
    app_.fallthrough();
    AddGlobalOptions();
    AddCommands();
  }

  CLI::App& app() { return app_; }
  Command& chosen() { return chosen_; }
  absl::StatusOr<GlobalOptions> Options();

 private:
  void AddGlobalOptions();
  void AddCommands();

  CLI::App app_;
  Command chosen_;
  GlobalOptions options_;
  std::string timeout_;
};

void Parser::AddGlobalOptions() {
  static const std::map<std::string, Format> kFormats = {{"table", Format::kTable},
                                                         {"json", Format::kJson},
                                                         {"yaml", Format::kYaml},
                                                         {"csv", Format::kCsv}};
  client::ClientOptions& client = options_.client;
  app_.add_option("--server", client.server,
                  "Coordinator to talk to; several that stand in for each other: a:7070,b:7070")
      ->type_name("HOST:PORT")
      ->envname("ESPALIER_SERVER")
      ->capture_default_str();
  app_.add_option("--ca", client.tls_ca_file, "PEM file of the authority to trust: turns TLS on")
      ->type_name("FILE")
      ->envname("ESPALIER_CA");
  app_.add_option("--cert", client.tls_cert_file, "PEM file of this client's certificate")
      ->type_name("FILE")
      ->envname("ESPALIER_CERT");
  app_.add_option("--key", client.tls_key_file, "PEM file of this client's key")
      ->type_name("FILE")
      ->envname("ESPALIER_KEY");
  app_.add_option("--key-passphrase-file", client.tls_passphrase_file,
                  "File with the passphrase of an encrypted key")
      ->type_name("FILE")
      ->envname("ESPALIER_KEY_PASSPHRASE_FILE");
  app_.add_option("--tls-dir", client.tls_dir,
                  "Folder of `espalier cert`, with ca.pem, and cert.pem and key.pem if they are "
                  "there, for what the options above do not name")
      ->type_name("DIR")
      ->envname("ESPALIER_TLS_DIR");
  app_.add_option("--token-file", client.token_file, "File with a token of `espalier user token`")
      ->type_name("FILE")
      ->envname("ESPALIER_TOKEN_FILE");
  app_.add_flag("--insecure", client.insecure,
                "Speak with a coordinator on another machine without TLS");
  app_.add_option("--timeout", timeout_,
                  "Longest time for one call, such as 30s (the default) or 2m; with --wait or "
                  "--watch also for the whole wait")
      ->type_name("TIME");
  app_.add_option("-o,--output", options_.format,
                  "How results are printed: table (the default), json or yaml; job rounds also csv")
      ->transform(CLI::Validator(
          [](std::string& word) -> std::string {
            const auto format = kFormats.find(word);
            if (format == kFormats.end()) {
              return "expected table, json, yaml or csv, found " + config::Quoted(word);
            }
            word = std::to_string(static_cast<int>(format->second));
            return "";
          },
          ""))
      ->type_name("FORMAT");
}

void Parser::AddCommands() {
  AddDemo(app_, chosen_);
  AddUp(app_, chosen_);
  AddInit(app_, chosen_);
  AddDashboard(app_, chosen_);
  CLI::App* job = AddGroup(app_, "job", "Submit, watch and cancel jobs");
  AddJobSubmit(*job, chosen_);
  AddJobList(*job, chosen_);
  AddJobGet(*job, chosen_);
  AddJobRounds(*job, chosen_);
  AddJobFeatures(*job, chosen_);
  AddJobWatch(*job, chosen_);
  AddJobLife(*job, chosen_);
  CLI::App* worker = AddGroup(app_, "worker", "The workers of a cluster");
  AddWorkerList(*worker, chosen_);
  AddWorkerDrain(*worker, chosen_);
  AddWorkerJoin(*worker, chosen_);
  AddWorkerRevoke(*worker, chosen_);
  AddWorkerToken(*AddGroup(*worker, "token", "Tokens with which new workers join"), chosen_);
  CLI::App* user = AddGroup(app_, "user", "Who uses the cluster");
  AddWhoAmI(*user, chosen_);
  AddUserToken(*AddGroup(*user, "token", "Tokens that stand for users"), chosen_);
  CLI::App* dataset = AddGroup(app_, "dataset", "The data sets of connected workers");
  AddDatasetList(*dataset, chosen_);
  AddDatasetDescribe(*dataset, chosen_);
  CLI::App* method = AddGroup(app_, "method", "Training methods and their parameters");
  AddMethodList(*method, chosen_);
  AddMethodDescribe(*method, chosen_);
  CLI::App* checkpoint = AddGroup(app_, "checkpoint", "Trained models");
  AddCheckpointList(*checkpoint, chosen_);
  AddCheckpointVerify(*checkpoint, chosen_);
  AddCheckpointGet(*checkpoint, chosen_);
  AddPredict(app_, chosen_);
  AddRecommend(app_, chosen_);
  AddGenerate(app_, chosen_);
  AddCert(app_, chosen_);
  CLI::App* cluster = AddGroup(app_, "cluster", "The cluster as a whole");
  AddClusterStatus(*cluster, chosen_);
  AddClusterDoctor(*cluster, chosen_);
  AddAudit(*AddGroup(app_, "audit", "The audit log of a coordinator, read from its files"),
           chosen_);
  AddVersion(app_, chosen_);
  // Carried out while arguments are parsed; here it is listed.
  app_.add_subcommand("help", "Show the help of a command: espalier help job submit")
      ->allow_extras();
}

absl::StatusOr<GlobalOptions> Parser::Options() {
  if (!timeout_.empty()) {
    options_.timeout_given = true;
    if (!absl::ParseDuration(timeout_, &options_.client.timeout) ||
        options_.client.timeout <= absl::ZeroDuration()) {
      return base::InvalidArgument(
          "USAGE", fmt::format("--timeout: expected a duration such as 30s or 2m, found {}",
                               config::Quoted(timeout_)));
    }
  }
  return options_;
}

// CLI::App finds subcommands by name only through exceptions.
const CLI::App* FindSubcommand(const CLI::App& app, const std::string& name) {
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (sub->get_name() == name) return sub;
  }
  return nullptr;
}

// Whether `flag` is an option of the root that takes its value from the next argument.
bool TakesNextArgument(const CLI::App& root, const std::string& flag) {
  for (const CLI::Option* option : root.get_options()) {
    if (option->check_name(flag)) return option->get_items_expected() > 0;
  }
  return false;
}

// A word where a command should stand, with the nearest command; "" when all commands are known.
std::string UnknownCommand(const CLI::App& root, const std::vector<std::string>& arguments) {
  const CLI::App* app = &root;
  std::string path = "espalier";
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    if (word.size() > 1 && word.front() == '-') {
      if (word.find('=') == std::string::npos && TakesNextArgument(root, word)) ++i;
      continue;
    }
    std::vector<std::string> known;
    for (const CLI::App* sub : app->get_subcommands([](const CLI::App*) { return true; })) {
      known.push_back(sub->get_name());
    }
    if (known.empty()) return "";
    app = FindSubcommand(*app, word);
    if (app == nullptr) {
      return fmt::format("{}: {}", path, config::UnknownName("command", word, known));
    }
    path += " " + word;
  }
  return "";
}

// `espalier help job submit` is `espalier job submit --help`.
std::vector<std::string> HelpAsOption(const CLI::App& root, std::vector<std::string> arguments) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    if (word.size() > 1 && word.front() == '-') {
      if (word.find('=') == std::string::npos && TakesNextArgument(root, word)) ++i;
      continue;
    }
    if (word != "help") break;
    arguments.erase(arguments.begin() + static_cast<int64_t>(i));
    arguments.emplace_back("--help");
    break;
  }
  return arguments;
}

// The deepest command that the arguments name: the one whose help fits.
const CLI::App& NamedCommand(const CLI::App& root, const std::vector<std::string>& arguments) {
  const CLI::App* app = &root;
  for (const std::string& word : arguments) {
    if (const CLI::App* sub = FindSubcommand(*app, word)) app = sub;
  }
  return *app;
}

// The deepest command that was parsed.
const CLI::App& ChosenCommand(const CLI::App& root) {
  const CLI::App* app = &root;
  while (!app->get_subcommands().empty()) app = app->get_subcommands().front();
  return *app;
}

std::string FullName(const CLI::App& app) {
  return app.get_parent() == nullptr ? app.get_name()
                                     : FullName(*app.get_parent()) + " " + app.get_name();
}

// Errors honour -o even when the arguments do not parse.
Format GuessFormat(const std::vector<std::string>& arguments) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    if (word == "-ojson" || word == "-o=json" || word == "--output=json") return Format::kJson;
    const bool flag = word == "-o" || word == "--output";
    if (flag && i + 1 < arguments.size() && arguments[i + 1] == "json") return Format::kJson;
  }
  return Format::kTable;
}

int Report(const absl::Status& status, Format format, const Streams& streams) {
  if (io::ReaderGone(status)) return kExitReaderGone;
  streams.err << ErrorText(status, format, streams.err_terminal) << std::flush;
  return ExitCodeOf(status);
}

// Explains why arguments did not parse.
int ReportUsage(const CLI::ParseError& error, CLI::App& app,
                const std::vector<std::string>& arguments, const Streams& streams) {
  const CLI::App& command = NamedCommand(app, arguments);
  std::string message = UnknownCommand(app, arguments);
  if (message.empty() && !command.get_subcommands([](const CLI::App*) { return true; }).empty()) {
    message = fmt::format("{}: expected a command after it", FullName(command));
  }
  if (message.empty()) message = fmt::format("{}: {}", FullName(command), error.what());
  return Report(WithFurtherLines(base::InvalidArgument("USAGE", message),
                                 {fmt::format("See: {} --help", FullName(command))}),
                GuessFormat(arguments), streams);
}

// CLI11 reports everything by exceptions; they end here. Returns -1 when a command is to be run.
int ParseArguments(Parser& parser, const std::vector<std::string>& given, const Streams& streams) {
  CLI::App& app = parser.app();
  const std::vector<std::string> arguments = HelpAsOption(app, given);
  if (arguments.empty()) {
    streams.out << app.help();
    return kExitDone;
  }
  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::CallForHelp& help) {
    // There is no help on a command that does not exist.
    if (!UnknownCommand(app, arguments).empty()) return ReportUsage(help, app, arguments, streams);
    const CLI::App& command = NamedCommand(app, arguments);
    // CLI11 adds the command's own name itself.
    streams.out << command.help(command.get_parent() ? FullName(*command.get_parent()) : "");
    return kExitDone;
  } catch (const CLI::CallForVersion&) {
    streams.out << VersionLine() << "\n";
    return kExitDone;
  } catch (const CLI::ParseError& error) {
    return ReportUsage(error, app, arguments, streams);
  }
  return -1;
}

int RunChosen(Parser& parser, const std::vector<std::string>& arguments, const Streams& streams,
              Interrupt* interrupt) {
  absl::StatusOr<GlobalOptions> options = parser.Options();
  if (options.ok() && options->format == Format::kCsv) {
    const std::string command = FullName(ChosenCommand(parser.app()));
    if (std::ranges::find(kCsvCommands, command) == kCsvCommands.end()) {
      options = base::InvalidArgument(
          "USAGE",
          fmt::format("{}: expected -o table, json or yaml, found csv, which only {} print",
                      command, fmt::join(kCsvCommands, " and ")));
    }
  }
  if (!options.ok()) return Report(options.status(), GuessFormat(arguments), streams);
  Context context{*options, streams.out, streams.err, streams.out_terminal, streams.err_terminal,
                  interrupt};
  const absl::StatusOr<int> code = parser.chosen()(context);
  return code.ok() ? *code : Report(code.status(), options->format, streams);
}

}  // namespace

int RunCli(const std::vector<std::string>& arguments, const Streams& streams,
           Interrupt* interrupt) {
  Parser parser;
  int code = ParseArguments(parser, arguments, streams);
  if (code < 0) code = RunChosen(parser, arguments, streams, interrupt);
  streams.out.flush();
  // Commands that print for long have noticed it themselves, and said so.
  if (streams.out || code == kExitExhausted || code == kExitReaderGone) return code;
  const int unwritten = Report(io::Unwritten(), GuessFormat(arguments), streams);
  return code == kExitDone ? unwritten : code;
}

std::string ResourceName(const std::string& collection, const std::string& name) {
  return name.starts_with(collection + "/") ? name : collection + "/" + name;
}

}  // namespace espalier::cli
