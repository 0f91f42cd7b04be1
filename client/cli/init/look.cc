#include "client/cli/init/look.h"

#include <google/protobuf/util/json_util.h>

#include <utility>
#include <vector>

#include "client/cli/exit_code.h"
#include "client/cli/programs/beside.h"
#include "common/base/status.h"
#include "nlohmann/json.hpp"

namespace espalier::cli::init {
namespace {

absl::StatusOr<Look> ParseLook(const std::string& text) {
  const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  Look look;
  const bool whole = json.is_object() && json.contains("dataset") && json.contains("last_fifth") &&
                     json["last_fifth"].is_number();
  if (whole &&
      google::protobuf::util::JsonStringToMessage(json["dataset"].dump(), &look.info).ok()) {
    look.last_fifth = json["last_fifth"].get<double>();
    return look;
  }
  return base::MakeError(absl::StatusCode::kInternal, "PROGRAM_FAILED",
                         "expected espalier-worker --describe to print a description, found "
                         "something else; install both programs of one version");
}

}  // namespace

Looker LookAt(const std::string& folder) {
  return [folder](const v1::DataSpec* view) -> absl::StatusOr<Look> {
    std::vector<std::string> arguments = {"--describe", folder};
    if (view != nullptr) {
      arguments.emplace_back("--view");
      // What espalier-worker reads is protobuf's JSON.
      std::string json;
      if (!google::protobuf::util::MessageToJsonString(*view, &json).ok()) {
        return base::MakeError(absl::StatusCode::kInternal, "PROGRAM_FAILED",
                               "expected a view of the data set that can be written as JSON");
      }
      arguments.push_back(std::move(json));
    }
    std::string text;
    ESPALIER_ASSIGN_OR_RETURN(const int code, ReadBeside("espalier-worker", arguments, text));
    if (code == kExitDone) return ParseLook(text);
    return base::MakeError(absl::StatusCode::kInternal, "PROGRAM_FAILED",
                           "espalier-worker ended with an error, which it wrote above");
  };
}

}  // namespace espalier::cli::init
