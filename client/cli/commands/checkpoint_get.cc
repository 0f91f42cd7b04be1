#include <filesystem>

#include "client/cli/commands/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "client/lib/language_export.h"
#include "common/base/flags.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "common/config/text.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

constexpr char kDescription[] = R"(Download a trained model (safetensors with its sparse structure)

Examples:
  espalier checkpoint get checkpoints/my-job-20
  espalier checkpoint get my-job-20 -O model.safetensors
  espalier checkpoint get my-pruned-llm-5 --format hf -O pruned

With --format hf a language model becomes a folder in Hugging Face's layout:
config.json and model.safetensors, pruned weights being zeros, with the
tokenizer and generation files of the model that was pruned. A model that was
trained here has none of its own: --tokenizer names a folder that has them.

A download that was interrupted continues where it stopped; the file appears
under its name only after its checksum was verified. Format and loading in
Python: docs/formats/checkpoint.md, docs/tutorial.md.)";

// A line of progress that redraws itself; nothing in a pipe.
void ShowProgress(const Context& context, int64_t bytes, int64_t total) {
  if (!context.err_terminal.is_tty) return;
  context.err << fmt::format("\r\x1b[K{} of {}", HumanBytes(bytes), HumanBytes(total))
              << std::flush;
}

std::string DefaultFolder(const v1::Checkpoint& checkpoint) {
  return checkpoint.name().substr(checkpoint.name().rfind('/') + 1);
}

// A folder is made; the download is a file in it until it is converted.
absl::StatusOr<std::string> PathOfDownload(const std::string& target, bool hugging_face) {
  if (!hugging_face) return target;
  std::error_code error;
  std::filesystem::create_directories(target, error);
  if (error) {
    return base::FailedPrecondition(
        "FOLDER_UNUSABLE",
        fmt::format("expected a folder to write to at '{}', found: {}", target, error.message()));
  }
  return target + "/.download.safetensors";
}

std::string DefaultFile(const v1::Checkpoint& checkpoint) {
  return checkpoint.name().substr(checkpoint.name().rfind('/') + 1) + ".safetensors";
}

struct GetOptions {
  std::string name;
  std::string output;
  std::string format = "espalier";
  std::string tokenizer;
};

// What belongs to a model was found, or has to come from elsewhere.
std::string TellOf(const std::vector<std::string>& companions) {
  if (!companions.empty()) return "with " + config::Joined(companions, ", ");
  return "without a tokenizer, which the checkpoint does not have; --tokenizer FOLDER adds one";
}

absl::StatusOr<int> Get(Context& context, const GetOptions& options) {
  const std::string& output = options.output;
  const bool hugging_face = options.format == "hf";
  if (!options.tokenizer.empty() && !hugging_face) {
    return base::InvalidArgument("USAGE", "--tokenizer belongs to --format hf; add it");
  }
  ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
  ESPALIER_ASSIGN_OR_RETURN(const v1::Checkpoint checkpoint,
                            client->GetCheckpoint(ResourceName("checkpoints", options.name)));
  const std::string target = !output.empty() ? output
                             : hugging_face  ? DefaultFolder(checkpoint)
                                             : DefaultFile(checkpoint);
  ESPALIER_ASSIGN_OR_RETURN(const std::string path, PathOfDownload(target, hugging_face));
  const absl::Status status = client->DownloadCheckpoint(
      checkpoint, path,
      [&](int64_t bytes) { ShowProgress(context, bytes, checkpoint.size_bytes()); },
      context.stop());
  if (context.err_terminal.is_tty) context.err << "\r\x1b[K";
  if (status.code() == absl::StatusCode::kCancelled) {
    return base::MakeError(
        status.code(), "INTERRUPTED",
        fmt::format("interrupted; run the same command again to continue ({}.part "
                    "holds what has arrived)",
                    path));
  }
  ESPALIER_RETURN_IF_ERROR(status);
  std::vector<std::string> companions;
  if (hugging_face) {
    ESPALIER_ASSIGN_OR_RETURN(companions,
                              client::ExportHuggingFace(path, target, options.tokenizer));
  }
  if (context.PrintAsData(checkpoint)) return kExitDone;
  context.out << base::Printable(target) << "\n";
  context.err << fmt::format("{}, SHA-256 verified{}\n", HumanBytes(checkpoint.size_bytes()),
                             hugging_face ? ", " + TellOf(companions) : "");
  return kExitDone;
}

}  // namespace

void AddCheckpointGet(CLI::App& parent, Command& chosen) {
  auto options = std::make_shared<GetOptions>();
  CLI::App* command = parent.add_subcommand("get", kDescription);
  command->add_option("CHECKPOINT", options->name, "checkpoints/NAME, or only NAME")->required();
  command
      ->add_option(
          "-O,--output-file", options->output,
          "Where to write it; default: NAME.safetensors in this folder, with --format hf a "
          "folder NAME")
      ->type_name("FILE");
  command
      ->add_option("--format", options->format,
                   "espalier: one file with the sparse structure; hf: Hugging Face's layout")
      ->check(base::OneOf({"espalier", "hf"}))
      ->capture_default_str();
  command
      ->add_option("--tokenizer", options->tokenizer,
                   "With --format hf: folder whose tokenizer and generation files to add instead "
                   "of the checkpoint's")
      ->type_name("FOLDER");
  command->callback([&chosen, options] {
    chosen = [options](Context& context) { return Get(context, *options); };
  });
}

}  // namespace espalier::cli
