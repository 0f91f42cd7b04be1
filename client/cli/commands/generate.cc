#include <filesystem>
#include <vector>

#include "client/cli/commands/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "client/cli/programs/beside.h"
#include "client/cli/programs/temporary_folder.h"
#include "client/lib/language_export.h"
#include "common/base/flags.h"
#include "common/base/status.h"
#include "common/io/file_system.h"
#include "common/language/tokenizer.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

constexpr char kDescription[] = R"(Continue a text with a language model

Examples:
  espalier generate models/stories260K --prompt "Once upon a time"
  espalier generate my-pruned-llm-5 --prompt "One day"
  espalier generate my-transformer-20 --tokenizer bytes --prompt "ROMEO:"

MODEL is a folder in Hugging Face's layout, or a checkpoint of the coordinator.
The most likely token is taken each time, so that the same model always writes
the same. The work is done here, by espalier-worker.)";

struct GenerateOptions {
  std::string model;
  std::string tokenizer;
  std::string prompt;
  int tokens = 100;
  int threads = 1;
};

absl::Status Download(Context& context, const std::string& name, const std::string& folder) {
  ESPALIER_ASSIGN_OR_RETURN(const std::string file, DownloadTo(context, name, folder));
  return client::ExportHuggingFace(file, folder, "").status();
}

absl::Status CheckTokenizer(const std::string& folder, bool is_folder) {
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                            io::PosixFileSystem().List(folder));
  if (!language::TokenizerFileAmong(names).empty()) return absl::OkStatus();
  return base::InvalidArgument(
      "TOKENIZER_NEEDED",
      fmt::format("expected --tokenizer, since {} has no tokenizer of its own; give the folder of "
                  "the model that was pruned, a tokenizer's file, or \"bytes\" for a model that "
                  "reads bytes",
                  is_folder ? "the folder" : "the checkpoint"));
}

absl::StatusOr<int> Generate(Context& context, const GenerateOptions& options) {
  if (context.options.format != Format::kTable) {
    return base::InvalidArgument("USAGE",
                                 "generate prints the text as it is, neither json nor yaml; leave "
                                 "-o out");
  }
  const bool is_folder = std::filesystem::is_directory(options.model);
  TemporaryFolder temporary;
  if (!is_folder) {
    ESPALIER_RETURN_IF_ERROR(temporary.Create());
    ESPALIER_RETURN_IF_ERROR(Download(context, options.model, temporary.path()));
  }
  const std::string folder = is_folder ? options.model : temporary.path();
  std::string tokenizer = options.tokenizer;
  if (tokenizer.empty()) {
    ESPALIER_RETURN_IF_ERROR(CheckTokenizer(folder, is_folder));
    tokenizer = folder;
  }
  context.out << std::flush;
  return RunBeside("espalier-worker", {"--generate", folder, "--tokenizer", tokenizer, "--prompt",
                                       options.prompt, "--tokens", std::to_string(options.tokens),
                                       "--threads", std::to_string(options.threads)});
}

}  // namespace

void AddGenerate(CLI::App& parent, Command& chosen) {
  auto options = std::make_shared<GenerateOptions>();
  CLI::App* command = parent.add_subcommand("generate", kDescription);
  command->add_option("MODEL", options->model, "Folder of a model, or a checkpoint")->required();
  command->add_option("--prompt", options->prompt, "Text to continue")->required();
  command
      ->add_option("--tokenizer", options->tokenizer,
                   "File or folder with the tokenizer, or \"bytes\"; default: the model's folder")
      ->type_name("PATH");
  command->add_option("--tokens", options->tokens, "Most tokens to add, 1 to 100000")
      ->check(base::Between(1, 100'000))
      ->capture_default_str();
  command->add_option("--threads", options->threads, "Threads to compute with, 1 to 1024")
      ->check(base::Between(1, 1024))
      ->capture_default_str();
  command->callback([&chosen, options] {
    chosen = [options](Context& context) { return Generate(context, *options); };
  });
}

}  // namespace espalier::cli
