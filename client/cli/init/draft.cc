#include "client/cli/init/draft.h"

#include <filesystem>
#include <system_error>

#include "client/cli/init/sections.h"
#include "client/cli/init/shell.h"
#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::cli::init {
namespace {

namespace fs = std::filesystem;

// A folder of data sets is not one: names one of them.
std::string DatasetInside(const std::string& folder) {
  std::error_code error;
  std::string first;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    std::error_code ignored;
    if (!at->is_directory(ignored) || !IsDatasetName(at->path().filename())) continue;
    if (first.empty() || at->path().string() < first) first = at->path().string();
  }
  return first;
}

absl::Status WithRemedy(const Source& source, const std::string& problem) {
  const std::string inside = DatasetInside(source.folder);
  if (inside.empty()) return Unusable(problem);
  return Unusable(fmt::format(
      "{}. If the folders in {} are data sets, name one of them, such as espalier init {}", problem,
      source.name, ShellWord(inside)));
}

Kind KindOf(const Wishes& wishes, const v1::DatasetInfo& info) {
  if (wishes.kind != Kind::kFound) return wishes.kind;
  if (info.format() == "text") return Kind::kText;
  if (info.format() == "images") return Kind::kImages;
  const bool table = info.format() == "csv" && info.features() > 0;
  if (info.interactions() > 0 && !table) return Kind::kInteractions;
  return Kind::kTable;
}

}  // namespace

absl::StatusOr<Draft> MakeDraft(const Source& source, const Wishes& wishes, const Looker& look) {
  if (source.is_model) return ModelJob(source, wishes);
  if (!wishes.text.empty()) {
    return base::InvalidArgument(
        "USAGE", fmt::format("--text belongs to a trained model; {} holds data, so leave it out",
                             source.name));
  }
  ESPALIER_ASSIGN_OR_RETURN(const Look looks, look(nullptr));
  const std::string& format = looks.info.format();
  const Kind kind = KindOf(wishes, looks.info);
  const bool arrays = format == "idx" || format == "cifar10" || format == "npy";
  switch (kind) {
    case Kind::kText:
      return TextJob(source, wishes, look);
    case Kind::kImages:
      return ImageJob(source, wishes, looks, look);
    case Kind::kInteractions:
      return InteractionsJob(source, wishes, look);
    default:
      break;
  }
  if (arrays && wishes.kind == Kind::kFound) {
    if (!looks.info.problem().empty()) return Unusable(looks.info.problem());
    return ArrayJob(source, wishes, looks);
  }
  // What is wrong with a table may be put right by what a job says; of other folders nothing is
  // known.
  auto table = TableJob(source, wishes, looks, look);
  if (table.ok() || base::ReasonOf(table.status()) != "DATA_UNUSABLE") return table;
  return WithRemedy(source, base::MessageOf(table.status()));
}

}  // namespace espalier::cli::init
