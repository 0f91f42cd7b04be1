#include "server/datasets/dataset_fit.h"

#include <string>

#include "server/datasets/kinds/data_kind.h"

namespace espalier::server::datasets {
std::vector<config::Violation> Misfits(const v1::JobSpec& spec, const v1::DatasetInfo& info) {
  return DataKindOf(spec).Misfits(spec, info);
}

std::function<std::string(const v1::DatasetInfo&)> FitJudge(const v1::JobSpec& spec) {
  return [spec](const v1::DatasetInfo& info) {
    if (!info.problem().empty()) return info.problem();
    std::string text;
    for (const config::Violation& misfit : Misfits(spec, info)) {
      text += (text.empty() ? "" : "; ") + misfit.field + ": " + misfit.description;
    }
    return text;
  };
}

}  // namespace espalier::server::datasets
