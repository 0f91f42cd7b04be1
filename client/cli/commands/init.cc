#include <algorithm>
#include <filesystem>
#include <map>

#include "client/cli/commands/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/init/draft.h"
#include "client/cli/init/shell.h"
#include "client/cli/init/source.h"
#include "client/cli/output.h"
#include "client/lib/job_text.h"
#include "common/base/flags.h"
#include "common/base/names.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "common/config/text.h"
#include "common/io/atomic_file.h"
#include "common/io/file_system.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

constexpr char kDescription[] = R"(Write a job file for your own data

Examples:
  espalier init data/wine                        a folder with wine.csv in it
  espalier init data/wine --label kind           another column is the label
  espalier init data/pets --out pets.yaml        a folder of images per class
  espalier init data/book --method set           a text: a language model
  espalier init models/llama --text data/book    prunes half of a trained model

Looks at the data, writes job.yaml with a comment beside each choice, and shows
what to type next. It needs no cluster. What data may look like: docs/data-sets.md.)";

struct InitOptions {
  std::string path;
  std::string out = "job.yaml";
  std::string kind;
  std::string header;
  bool force = false;
  init::Wishes wishes;
};

const std::map<std::string, init::Kind>& Kinds() {
  static const std::map<std::string, init::Kind> kKinds = {
      {"table", init::Kind::kTable},
      {"images", init::Kind::kImages},
      {"text", init::Kind::kText},
      {"interactions", init::Kind::kInteractions}};
  return kKinds;
}

std::vector<std::string> KindWords() {
  std::vector<std::string> words;
  for (const auto& [word, kind] : Kinds()) words.push_back(word);
  return words;
}

absl::Status WriteJobFile(const std::string& path, bool force, const std::string& text) {
  std::error_code error;
  const std::filesystem::file_status found = std::filesystem::status(path, error);
  // A device or folder is not replaced, whoever asks.
  if (std::filesystem::exists(found) && !std::filesystem::is_regular_file(found)) {
    return base::FailedPrecondition(
        "FILE_UNWRITABLE",
        fmt::format("expected a place for the job file at {}, found something that is no file; "
                    "name another with --out, or - for standard output",
                    config::Quoted(path)));
  }
  if (!force && std::filesystem::exists(std::filesystem::symlink_status(path, error))) {
    return base::MakeError(
        absl::StatusCode::kAlreadyExists, "FILE_EXISTS",
        fmt::format("expected no file at {}, found one, which stays as it is; name another with "
                    "--out, or add --force to replace it",
                    config::Quoted(path)));
  }
  return base::Annotate(io::WriteAtomically(io::PosixFileSystem(), path, text),
                        "the job file could not be written; name another place with --out");
}

// What to type, in this order, in the terminal of the cluster and in another.
struct NextSteps {
  std::vector<init::Step> first;
  std::vector<init::Step> second;
};

NextSteps StepsAfter(const init::Source& source, const InitOptions& options,
                     const init::Draft& draft) {
  const std::string name = base::IdLike(source.name);
  NextSteps steps;
  steps.first = draft.before;
  steps.first.push_back(
      {fmt::format("espalier up --workers {} --data-root {}{}", options.wishes.workers,
                   init::ShellWord(draft.data_root), draft.up.empty() ? "" : " " + draft.up),
       "a cluster on this machine, until Ctrl-C"});
  const std::string file = options.out == "-" ? "FILE" : init::ShellWord(options.out);
  steps.second.push_back({fmt::format("espalier job submit {} --name {} --watch", file, name),
                          source.is_model
                              ? "prune it, and show every block; the next time with another name"
                              : "train, and show every round; the next time with another name"});
  if (!source.is_model) {
    steps.second.push_back({fmt::format("espalier checkpoint get {}-{}", name, draft.rounds),
                            "the trained model as a file"});
  }
  steps.second.insert(steps.second.end(), draft.afterwards.begin(), draft.afterwards.end());
  return steps;
}

void PrintSteps(std::ostream& out, const std::vector<init::Step>& steps) {
  for (const init::Step& step : steps) {
    out << fmt::format("  {}\n", base::Printable(step.command));
    out << fmt::format("      # {}\n", base::Printable(step.purpose));
  }
}

// Text in lines, the first after `first`, others after as many blanks.
void PrintWrapped(std::ostream& out, std::string first, const std::string& text, int columns) {
  const int room = columns - static_cast<int>(first.size());
  for (const std::string& line : Wrapped(text, room)) {
    out << first << line << "\n";
    first.assign(first.size(), ' ');
  }
}

void Tell(std::ostream& out, const init::Source& source, const InitOptions& options,
          const init::Draft& draft, const NextSteps& steps) {
  constexpr int kColumns = 80;
  out << base::Printable(source.folder) << "\n";
  for (const std::string& finding : draft.findings) {
    PrintWrapped(out, "  - ", base::Printable(finding), kColumns);
  }
  if (options.out != "-") {
    out << fmt::format("\nWrote {}; a comment beside each choice says why.\n",
                       base::Printable(options.out));
  }
  out << "\nNext, in this terminal:\n";
  PrintSteps(out, steps.first);
  out << "and in another, in this folder:\n";
  PrintSteps(out, steps.second);
}

Json AsJson(const std::vector<init::Step>& steps) {
  auto list = Json::array();
  for (const init::Step& step : steps) {
    list.push_back({{"command", step.command}, {"purpose", step.purpose}});
  }
  return list;
}

Json AsJson(const InitOptions& options, const init::Draft& draft, const NextSteps& steps) {
  Json json;
  json["job_file"] = options.out;
  json["data_root"] = draft.data_root;
  json["dataset"] = JsonOf(draft.dataset);
  json["findings"] = draft.findings;
  json["first_terminal"] = AsJson(steps.first);
  json["second_terminal"] = AsJson(steps.second);
  return json;
}

absl::StatusOr<int> Init(Context& context, const InitOptions& given) {
  InitOptions options = given;
  const bool as_data = context.options.format != Format::kTable;
  if (as_data && options.out == "-") {
    return base::InvalidArgument(
        "USAGE",
        "--out - writes the job file to where -o json or -o yaml write the result; name a "
        "file, or leave -o out");
  }
  if (!options.kind.empty()) options.wishes.kind = Kinds().at(options.kind);
  if (options.header == "present") options.wishes.header = v1::DataSpec::HEADER_PRESENT;
  if (options.header == "absent") options.wishes.header = v1::DataSpec::HEADER_ABSENT;
  ESPALIER_ASSIGN_OR_RETURN(const init::Source source, init::FindSource(options.path));
  ESPALIER_ASSIGN_OR_RETURN(const init::Draft draft,
                            init::MakeDraft(source, options.wishes, init::LookAt(source.folder)));
  // A file that would be refused is worse than none.
  ESPALIER_RETURN_IF_ERROR(client::ReadJob(draft.file, options.out, {}).status());
  const NextSteps steps = StepsAfter(source, options, draft);
  if (options.out == "-") {
    context.out << draft.file << std::flush;
    Tell(context.err, source, options, draft, steps);
    return kExitDone;
  }
  ESPALIER_RETURN_IF_ERROR(WriteJobFile(options.out, options.force, draft.file));
  if (as_data) {
    PrintData(context.out, context.options.format, AsJson(options, draft, steps));
    return kExitDone;
  }
  Tell(context.out, source, options, draft, steps);
  return kExitDone;
}

}  // namespace

void AddInit(CLI::App& parent, Command& chosen) {
  auto options = std::make_shared<InitOptions>();
  CLI::App* command = parent.add_subcommand("init", kDescription);
  command->add_option("PATH", options->path, "Folder of a data set, or a file in one")->required();
  command->add_option("--out", options->out, "File to write; - = standard output")
      ->type_name("FILE")
      ->capture_default_str();
  command->add_flag("--force", options->force, "Replace the file if there is one");
  command
      ->add_option("--kind", options->kind,
                   "What the data are, where their look misleads: table, images, text or "
                   "interactions")
      ->type_name("KIND")
      ->check(base::OneOf(KindWords()));
  command
      ->add_option("--label", options->wishes.label,
                   "Tables: column of the labels, by its name or its place counted from 0; "
                   "default: found")
      ->type_name("COLUMN");
  command
      ->add_option("--header", options->header,
                   "Tables: whether the first line names the columns, present or absent; default: "
                   "found")
      ->type_name("WHETHER")
      ->check(base::OneOf({"present", "absent"}));
  command
      ->add_option("--method", options->wishes.method,
                   "Method, such as set, rigl or dense; default: one that suits the data")
      ->type_name("NAME");
  command
      ->add_option("--text", options->wishes.text,
                   "Trained models: text that tells which weights matter")
      ->type_name("PATH");
  command
      ->add_option("--field", options->wishes.field,
                   "JSON lines: field that holds the text; default: text")
      ->type_name("NAME");
  command
      ->add_option("--workers", options->wishes.workers,
                   "Workers to divide the data among, 1 to 256")
      ->check(base::Between(1, 256))
      ->capture_default_str();
  command->callback([&chosen, options] {
    chosen = [options](Context& context) { return Init(context, *options); };
  });
}

}  // namespace espalier::cli
