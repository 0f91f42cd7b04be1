#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "client/cli/commands/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/programs/beside.h"
#include "client/cli/programs/temporary_folder.h"
#include "common/base/flags.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "common/io/atomic_file.h"
#include "common/io/file_system.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

constexpr char kDescription[] = R"(Predict with a trained model

Examples:
  espalier predict my-job-20 new.csv
  espalier predict my-job-20 new.csv --format json
  espalier predict my-job-20.safetensors images/ --top 3
  espalier predict my-transformer-20 prompts.txt
  espalier predict my-recommender-20 pairs.csv --data data/ml-100k

CHECKPOINT is one of the coordinator's, or a file that `checkpoint get` wrote.
FILE has examples in the form of the training files, with or without labels: a
table (.csv, .tsv, .txt), whose columns are found by their names; an .npy
array; an image (.png, .jpg) or a folder of them. For a language model it is a
text, of which each line is continued by one token; for a recommender pairs of
user and item. The work is done here, by espalier-worker: FILE goes nowhere.
More: docs/predict.md.)";

struct PredictOptions {
  std::string checkpoint;
  std::string input;
  std::string format;
  std::string output;
  std::string dataset;
  std::string tokenizer;
  int top = 0;
  int threads = 1;
};

// As --format says, otherwise -o, otherwise the ending of the file that is written.
absl::StatusOr<std::string> FormatOf(const Context& context, const PredictOptions& options) {
  if (!options.format.empty()) return options.format;
  switch (context.options.format) {
    case Format::kJson:
      return "json";
    case Format::kYaml:
      return base::InvalidArgument("USAGE", "predictions are csv, json or npy; use --format");
    default:
      break;
  }
  for (const char* format : {"json", "npy"}) {
    if (options.output.ends_with(std::string(".") + format)) return format;
  }
  return "csv";
}

absl::StatusOr<int> Predict(Context& context, const PredictOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(const std::string format, FormatOf(context, options));
  if (format == "npy" && options.output.empty() && context.out_terminal.is_tty) {
    return base::InvalidArgument("USAGE", "an .npy array is not for a terminal; add -O FILE.npy");
  }
  TemporaryFolder temporary;
  std::string file = options.checkpoint;
  // A name that no file can have is a checkpoint's.
  std::error_code no_file;
  if (!std::filesystem::is_regular_file(file, no_file)) {
    ESPALIER_RETURN_IF_ERROR(temporary.Create());
    ESPALIER_ASSIGN_OR_RETURN(file, DownloadTo(context, options.checkpoint, temporary.path()));
  }
  std::vector<std::string> arguments = {"--predict", file,
                                        "--input",   options.input,
                                        "--format",  format,
                                        "--top",     std::to_string(options.top),
                                        "--threads", std::to_string(options.threads)};
  if (!options.dataset.empty()) {
    arguments.insert(arguments.end(), {"--dataset", options.dataset});
  }
  if (!options.tokenizer.empty()) {
    arguments.insert(arguments.end(), {"--tokenizer", options.tokenizer});
  }
  if (options.output.empty()) {
    context.out << std::flush;
    return RunBeside("espalier-worker", arguments);
  }
  std::string result;
  ESPALIER_ASSIGN_OR_RETURN(const int code, ReadBeside("espalier-worker", arguments, result));
  if (code != kExitDone) return code;
  ESPALIER_RETURN_IF_ERROR(io::WriteAtomically(io::PosixFileSystem(), options.output, result));
  context.out << base::Printable(options.output) << "\n";
  return kExitDone;
}

}  // namespace

void AddPredict(CLI::App& parent, Command& chosen) {
  auto options = std::make_shared<PredictOptions>();
  CLI::App* command = parent.add_subcommand("predict", kDescription);
  command->add_option("CHECKPOINT", options->checkpoint, "checkpoints/NAME, NAME, or a file")
      ->required();
  command->add_option("FILE", options->input, "Examples, or a folder of images")->required();
  command->add_option("--format", options->format, "csv (the default), json or npy")
      ->check(base::OneOf({"csv", "json", "npy"}));
  command
      ->add_option("-O,--output-file", options->output,
                   "Where to write the result; default: standard output")
      ->type_name("FILE");
  command
      ->add_option("--top", options->top,
                   "Only so many most probable classes or tokens of each example, a line each; 0: "
                   "all classes, 5 tokens")
      ->check(base::Between(0, 1'000'000))
      ->capture_default_str();
  command
      ->add_option("--data", options->dataset,
                   "Folder of a recommender's data set, which names users and items")
      ->type_name("FOLDER");
  command
      ->add_option("--tokenizer", options->tokenizer,
                   "File or folder of a language model's tokenizer, or \"bytes\"; default: bytes, "
                   "if it was trained on them")
      ->type_name("PATH");
  command->add_option("--threads", options->threads, "Threads to compute with, 1 to 1024")
      ->check(base::Between(1, 1024))
      ->capture_default_str();
  command->callback([&chosen, options] {
    chosen = [options](Context& context) { return Predict(context, *options); };
  });
}

}  // namespace espalier::cli
