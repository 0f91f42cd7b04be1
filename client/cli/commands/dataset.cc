#include <map>

#include "client/cli/commands/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "common/base/status.h"
#include "common/config/text.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

constexpr char kList[] = R"(List the data sets of connected workers, and what they were taken for

Examples:
  espalier dataset list
  espalier dataset list -o json)";

constexpr char kDescribe[] = R"(Show a data set as each worker has it, or why it cannot be used

Examples:
  espalier dataset describe digits
  espalier dataset describe digits -o json)";

constexpr size_t kMaxWorkers = 100'000;
constexpr size_t kShownNames = 12;

std::string Count(int64_t count) { return count == 0 ? "-" : std::to_string(count); }

// The workers that describe a data set alike, by its name and the description.
struct Row {
  v1::DatasetInfo info;
  std::vector<std::string> workers;
};

std::map<std::string, Row> RowsOf(const v1::ListWorkersResponse& workers, const std::string& name) {
  std::map<std::string, Row> rows;
  for (const v1::Worker& worker : workers.workers()) {
    for (const v1::DatasetInfo& info : worker.datasets()) {
      if (!name.empty() && info.name() != name) continue;
      Row& row = rows[info.name() + '\0' + info.SerializeAsString()];
      row.info = info;
      row.workers.push_back(worker.name().substr(sizeof("workers/") - 1));
    }
  }
  return rows;
}

// Only the data set of that name of each worker that has it; "" = all.
v1::ListWorkersResponse Only(const v1::ListWorkersResponse& workers, const std::string& name) {
  v1::ListWorkersResponse only;
  for (const v1::Worker& worker : workers.workers()) {
    v1::Worker kept;
    kept.set_name(worker.name());
    kept.set_state(worker.state());
    for (const v1::DatasetInfo& info : worker.datasets()) {
      if (name.empty() || info.name() == name) *kept.add_datasets() = info;
    }
    if (kept.datasets_size() > 0) *only.add_workers() = std::move(kept);
  }
  return only;
}

std::string Size(const v1::DatasetInfo& info) {
  const bool examples = info.features() > 0;
  if (info.interactions() > 0 && !examples) {
    return fmt::format("{} interactions", info.interactions());
  }
  if (info.test_examples() == 0) return Count(info.train_examples());
  return fmt::format("{} + {}", info.train_examples(), info.test_examples());
}

absl::StatusOr<int> List(Context& context) {
  ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
  ESPALIER_ASSIGN_OR_RETURN(const auto workers, client->ListWorkers(kMaxWorkers));
  if (context.PrintAsData(Only(workers, ""))) return kExitDone;
  const auto rows = RowsOf(workers, "");
  if (rows.empty()) {
    context.err << "No connected worker has a data set. A data set is a folder under a worker's "
                   "--data-root.\n";
    return kExitDone;
  }
  Table table({{"NAME"},
               {"TAKEN FOR"},
               {"EXAMPLES", true, 2},
               {"FEATURES", true, 3},
               {"CLASSES", true, 4},
               {"WORKERS", true, 1},
               {.title = "PROBLEM", .wrap = true}});
  for (const auto& [key, row] : rows) {
    const v1::DatasetInfo& info = row.info;
    table.Add({info.name(), info.format().empty() ? "-" : info.format(), Size(info),
               Count(info.features()), Count(info.classes()), std::to_string(row.workers.size()),
               info.problem().empty() ? "-" : info.problem()});
  }
  table.Print(context.out, context.out_terminal);
  return kExitDone;
}

template <typename Names>
std::string Some(const Names& names) {
  std::vector<std::string> shown;
  for (const auto& name : names) {
    if (shown.size() == kShownNames) break;
    shown.push_back(name);
  }
  std::string text = config::Joined(shown, ", ");
  const auto all = static_cast<size_t>(names.size());
  if (all > shown.size()) text += fmt::format(" and {} more", all - shown.size());
  return text;
}

std::vector<std::string> ColumnNames(const v1::DatasetInfo& info) {
  std::vector<std::string> names;
  for (const auto& column : info.columns()) {
    if (!column.name().empty()) names.push_back(column.name());
  }
  return names;
}

void PrintRow(Context& context, const Row& row) {
  const v1::DatasetInfo& info = row.info;
  std::vector<std::pair<std::string, std::string>> fields = {{"name", info.name()},
                                                             {"workers", Some(row.workers)}};
  const auto add = [&](const char* name, const std::string& text) {
    if (!text.empty() && text != "0") fields.emplace_back(name, text);
  };
  add("problem", info.problem());
  add("taken for", info.format());
  add("examples", std::to_string(info.train_examples()));
  add("test examples", std::to_string(info.test_examples()));
  add("features", std::to_string(info.features()));
  add("columns", Some(ColumnNames(info)));
  if (!info.label_column().empty()) {
    add("label column", info.header() ? info.label_column()
                                      : fmt::format("{}, counted from 0", info.label_column()));
  }
  add("classes", std::to_string(info.classes()));
  add("class names", Some(info.class_names()));
  if (info.image_height() > 0) {
    add("image", fmt::format("{} × {} × {} (channels, height, width)", info.image_channels(),
                             info.image_height(), info.image_width()));
  }
  if (info.interactions() > 0) {
    add(info.features() > 0 ? "or else" : "interactions",
        fmt::format("{} of {} users with {} items", info.interactions(), info.users(),
                    info.items()));
  }
  if (!info.delimiter().empty()) {
    add("read as", fmt::format("{}s between cells, {} header", info.delimiter(),
                               info.header() ? "with a" : "without"));
  }
  PrintFields(context.out, context.out_terminal, fields);
}

absl::StatusOr<int> Describe(Context& context, const std::string& name) {
  ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
  ESPALIER_ASSIGN_OR_RETURN(const auto workers, client->ListWorkers(kMaxWorkers));
  const auto rows = RowsOf(workers, name);
  if (rows.empty()) {
    return base::NotFound("DATASET_NOT_FOUND",
                          fmt::format("expected a data set that a connected worker has, found {}; "
                                      "see `espalier dataset list`",
                                      config::Quoted(name)));
  }
  if (context.PrintAsData(Only(workers, name))) return kExitDone;
  bool first = true;
  for (const auto& [key, row] : rows) {
    if (!first) context.out << "\n";
    first = false;
    PrintRow(context, row);
  }
  return kExitDone;
}

}  // namespace

void AddDatasetList(CLI::App& parent, Command& chosen) {
  parent.add_subcommand("list", kList)->callback([&chosen] { chosen = List; });
}

void AddDatasetDescribe(CLI::App& parent, Command& chosen) {
  auto name = std::make_shared<std::string>();
  CLI::App* command = parent.add_subcommand("describe", kDescribe);
  command->add_option("NAME", *name, "Name, as in `espalier dataset list`")->required();
  command->callback(
      [&chosen, name] { chosen = [name](Context& context) { return Describe(context, *name); }; });
}

}  // namespace espalier::cli
