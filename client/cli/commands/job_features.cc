#include <algorithm>
#include <string>
#include <utility>

#include "client/cli/commands/commands.h"
#include "client/cli/data/csv.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "client/cli/output.h"
#include "client/json/json.h"
#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

constexpr char kDescription[] = R"(Show which input features a job found strongest

Examples:
  espalier job features my-job
  espalier job features my-job --all
  espalier job features my-job -o json | jq '.features[].index'

Jobs with method quick-selection have them, once they have ended. Without --all
those are shown that the job was asked to select. Places count from 0.)";

struct FeaturesOptions {
  std::string name;
  bool all = false;
};

std::string Name(const v1::FeatureStrength& feature) {
  return feature.name().empty() ? "-" : feature.name();
}

void PrintCsv(Context& context, const v1::Job& job) {
  context.out << "rank,index,name,strength,selected\n";
  int rank = 0;
  for (const v1::FeatureStrength& feature : job.features()) {
    context.out << fmt::format("{},{},{},{},{}\n", ++rank, feature.index(), CsvCell(feature.name()),
                               feature.strength(), feature.selected() ? "true" : "false");
  }
}

void PrintTable(Context& context, const v1::Job& job) {
  Table table({{"RANK", true, 1}, {"FEATURE", true}, {"NAME", false, 3}, {"STRENGTH", true}});
  int rank = 0;
  for (const v1::FeatureStrength& feature : job.features()) {
    table.Add({std::to_string(++rank), std::to_string(feature.index()), Name(feature),
               fmt::format("{:.5g}", feature.strength())});
  }
  table.Print(context.out, context.out_terminal);
}

absl::StatusOr<int> Features(Context& context, const FeaturesOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
  ESPALIER_ASSIGN_OR_RETURN(v1::Job job, client->GetJob(ResourceName("jobs", options.name)));
  if (job.features().empty()) {
    return base::FailedPrecondition(
        "FEATURES_MISSING",
        fmt::format("expected a job of method quick-selection that has ended, found {} of method "
                    "{}, which is {}; see docs/methods/quick-selection.md",
                    job.name(), job.spec().method().name(), StateWord(job.state())));
  }
  if (!options.all) {
    const auto left_out = std::ranges::remove_if(
        *job.mutable_features(), [](const auto& feature) { return !feature.selected(); });
    job.mutable_features()->erase(left_out.begin(), left_out.end());
  }
  if (context.options.format == Format::kCsv) {
    PrintCsv(context, job);
  } else if (context.options.format == Format::kTable) {
    PrintTable(context, job);
  } else {
    Json features = Json::array();
    for (const v1::FeatureStrength& feature : job.features()) features.push_back(JsonOf(feature));
    PrintData(context.out, context.options.format, Json{{"features", std::move(features)}});
  }
  return kExitDone;
}

}  // namespace

void AddJobFeatures(CLI::App& parent, Command& chosen) {
  auto options = std::make_shared<FeaturesOptions>();
  CLI::App* command = parent.add_subcommand("features", kDescription);
  command->add_option("JOB", options->name, "jobs/ID, or only ID")->required();
  command->add_flag("--all", options->all, "Also those that were not selected");
  command->callback([&chosen, options] {
    chosen = [options](Context& context) { return Features(context, *options); };
  });
}

}  // namespace espalier::cli
