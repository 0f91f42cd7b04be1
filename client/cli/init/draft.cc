#include "client/cli/init/draft.h"

#include <filesystem>
#include <system_error>

#include "client/cli/init/sections.h"
#include "client/cli/init/shell.h"
#include "common/base/names.h"
#include "common/base/status.h"
#include "common/config/text.h"
#include "common/io/file_system.h"
#include "fmt/format.h"

namespace espalier::cli::init {
namespace {

namespace fs = std::filesystem;

// A folder of data sets is not one: names one of them.
std::string DatasetInside(const std::string& folder) {
  const auto names = io::PosixFileSystem().List(folder);
  if (!names.ok()) return "";
  for (const std::string& name : *names) {
    const fs::path path = fs::path(folder) / name;
    std::error_code ignored;
    if (fs::is_directory(path, ignored) && base::IsDatasetName(name)) return path.string();
  }
  return "";
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

// Options that say something of other kinds of data. `kind` is null for models.
absl::Status CheckOptions(const Source& source, const Wishes& wishes, const Kind* kind) {
  const auto refuse = [&](const char* option, const char* owner) {
    return base::InvalidArgument(
        "USAGE", fmt::format("{} is for {}, found that {} holds something else; leave it out",
                             option, owner, config::Quoted(source.name)));
  };
  const auto is = [kind](Kind wanted) { return kind != nullptr && *kind == wanted; };
  if (!wishes.label.empty() && !is(Kind::kTable)) return refuse("--label", "tables");
  if (wishes.header != v1::DataSpec::HEADER_UNSPECIFIED && !is(Kind::kTable)) {
    return refuse("--header", "tables");
  }
  if (!wishes.field.empty() && !is(Kind::kText) && kind != nullptr) {
    return refuse("--field", "texts in JSON lines");
  }
  if (!wishes.text.empty() && kind != nullptr) return refuse("--text", "trained models");
  if (wishes.kind != Kind::kFound && kind == nullptr) return refuse("--kind", "data");
  return absl::OkStatus();
}

absl::StatusOr<Draft> TableOrRemedy(const Source& source, const Wishes& wishes,
                                    const Looker& look) {
  auto table = TableJob(source, wishes, look);
  if (table.ok() || base::ReasonOf(table.status()) != "DATA_UNUSABLE") return table;
  return WithRemedy(source, base::MessageOf(table.status()));
}

absl::StatusOr<Draft> DataJob(const Source& source, const Wishes& wishes, const Looker& look) {
  ESPALIER_ASSIGN_OR_RETURN(const Look looks, look(nullptr));
  const std::string& format = looks.info.format();
  const Kind kind = KindOf(wishes, looks.info);
  const bool arrays = format == "idx" || format == "cifar10" || format == "npy";
  ESPALIER_RETURN_IF_ERROR(CheckOptions(source, wishes, &kind));
  switch (kind) {
    case Kind::kText:
      return TextJob(source, wishes, look);
    case Kind::kImages:
      return ImageJob(source, wishes, look);
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
  return TableOrRemedy(source, wishes, look);
}

}  // namespace

absl::StatusOr<Draft> MakeDraft(const Source& source, const Wishes& wishes, const Looker& look) {
  if (source.is_model) {
    ESPALIER_RETURN_IF_ERROR(CheckOptions(source, wishes, nullptr));
    return ModelJob(source, wishes);
  }
  ESPALIER_ASSIGN_OR_RETURN(Draft draft, DataJob(source, wishes, look));
  draft.data_root = source.root;
  return draft;
}

}  // namespace espalier::cli::init
