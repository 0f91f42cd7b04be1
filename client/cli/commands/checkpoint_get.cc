#include "client/cli/commands/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

constexpr char kDescription[] = R"(Download a trained model (safetensors with its sparse structure)

Examples:
  espalier checkpoint get checkpoints/my-job-20
  espalier checkpoint get my-job-20 -O model.safetensors

A download that was interrupted continues where it stopped; the file appears
under its name only after its checksum was verified. Format and loading in
Python: docs/formats/checkpoint.md, docs/tutorial.md.)";

// A line of progress that redraws itself; nothing in a pipe.
void ShowProgress(const Context& context, int64_t bytes, int64_t total) {
  if (!context.err_terminal.is_tty) return;
  context.err << fmt::format("\r\x1b[K{} of {}", HumanBytes(bytes), HumanBytes(total))
              << std::flush;
}

std::string DefaultFile(const v1::Checkpoint& checkpoint) {
  return checkpoint.name().substr(checkpoint.name().rfind('/') + 1) + ".safetensors";
}

absl::StatusOr<int> Get(Context& context, const std::string& name, const std::string& output) {
  ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
  ESPALIER_ASSIGN_OR_RETURN(const v1::Checkpoint checkpoint,
                            client->GetCheckpoint(ResourceName("checkpoints", name)));
  const std::string path = output.empty() ? DefaultFile(checkpoint) : output;
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
  if (context.PrintAsData(checkpoint)) return kExitDone;
  context.out << path << "\n";
  context.err << fmt::format("{}, SHA-256 verified\n", HumanBytes(checkpoint.size_bytes()));
  return kExitDone;
}

}  // namespace

void AddCheckpointGet(CLI::App& parent, Command& chosen) {
  struct Options {
    std::string name;
    std::string output;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = parent.add_subcommand("get", kDescription);
  command->add_option("CHECKPOINT", options->name, "checkpoints/NAME, or only NAME")->required();
  command
      ->add_option("-O,--output-file", options->output,
                   "Where to write it; default: NAME.safetensors in this folder")
      ->type_name("FILE");
  command->callback([&chosen, options] {
    chosen = [options](Context& context) { return Get(context, options->name, options->output); };
  });
}

}  // namespace espalier::cli
