#include "client/cli/commands/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

constexpr char kVerify[] = R"(Read checkpoints again and say which are damaged

Examples:
  espalier checkpoint verify
  espalier checkpoint verify --job my-job
  espalier checkpoint verify my-job-20

The coordinator reads every byte of the files and compares it with what was written. Files that it
found damaged when it was started are listed too. Exits with 1 when anything is damaged.)";

constexpr char kDelete[] = R"(Remove checkpoints

Examples:
  espalier checkpoint delete my-job-20)";

struct VerifyOptions {
  std::string checkpoint;
  std::string job;
};

// The checkpoints to be read; `damaged` gets what was found before.
absl::StatusOr<std::vector<std::string>> NamesOf(client::Client& client,
                                                 const VerifyOptions& options, Table& damaged) {
  if (!options.checkpoint.empty()) {
    return std::vector<std::string>{ResourceName("checkpoints", options.checkpoint)};
  }
  constexpr size_t kLimit = 1'000'000;
  ESPALIER_ASSIGN_OR_RETURN(
      const auto list,
      client.ListCheckpoints(options.job.empty() ? "" : ResourceName("jobs", options.job), kLimit));
  std::vector<std::string> names;
  for (const v1::Checkpoint& checkpoint : list.checkpoints()) names.push_back(checkpoint.name());
  for (const v1::DamagedCheckpoint& file : list.damaged()) {
    damaged.Add({file.file(), file.problem()});
  }
  return names;
}

absl::StatusOr<int> Verify(Context& context, const VerifyOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
  Table damaged({{"DAMAGED"}, {.title = "PROBLEM", .wrap = true}});
  ESPALIER_ASSIGN_OR_RETURN(const auto names, NamesOf(*client, options, damaged));
  int verified = 0;
  for (const std::string& name : names) {
    const absl::Status status = client->VerifyCheckpoint(name).status();
    if (status.ok()) {
      ++verified;
    } else if (status.code() == absl::StatusCode::kDataLoss) {
      damaged.Add({name, base::MessageOf(status)});
    } else if (status.code() != absl::StatusCode::kNotFound || !options.checkpoint.empty()) {
      return status;
    }
  }
  context.err << fmt::format("{} checkpoint{} as written\n", verified, verified == 1 ? "" : "s");
  if (damaged.empty()) return kExitDone;
  damaged.Print(context.out, context.out_terminal);
  return kExitUnexpected;
}

absl::StatusOr<int> Delete(Context& context, const std::vector<std::string>& names) {
  ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
  for (const std::string& name : names) {
    ESPALIER_RETURN_IF_ERROR(client->DeleteCheckpoint(ResourceName("checkpoints", name)));
    context.err << fmt::format("deleted {}\n", ResourceName("checkpoints", name));
  }
  return kExitDone;
}

}  // namespace

void AddCheckpointVerify(CLI::App& parent, Command& chosen) {
  auto options = std::make_shared<VerifyOptions>();
  CLI::App* verify = parent.add_subcommand("verify", kVerify);
  auto* one = verify->add_option("CHECKPOINT", options->checkpoint,
                                 "checkpoints/JOB-ROUND, or only JOB-ROUND; default: all");
  verify->add_option("--job", options->job, "Only those of this job")->excludes(one);
  verify->callback([&chosen, options] {
    chosen = [options](Context& context) { return Verify(context, *options); };
  });
  auto names = std::make_shared<std::vector<std::string>>();
  CLI::App* remove = parent.add_subcommand("delete", kDelete);
  remove->add_option("CHECKPOINT", *names, "checkpoints/JOB-ROUND, or only JOB-ROUND")->required();
  remove->callback(
      [&chosen, names] { chosen = [names](Context& context) { return Delete(context, *names); }; });
}

}  // namespace espalier::cli
