#include "server/pretrained/same_network.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string>

#include "common/base/status.h"

namespace espalier::server::pretrained {
namespace {

std::string Describe(const tensor::ModelLayout& layout, size_t i) {
  if (i >= layout.size()) return "no such tensor";
  return fmt::format("{} ({})", layout[i].name, fmt::join(layout[i].shape, " × "));
}

absl::Status CheckTensors(const tensor::ModelLayout& expected, const tensor::ModelLayout& found) {
  for (size_t i = 0; i < std::max(expected.size(), found.size()); ++i) {
    const bool both = i < expected.size() && i < found.size();
    if (both && expected[i].name == found[i].name && expected[i].shape == found[i].shape) continue;
    return base::FailedPrecondition(
        "OTHER_NETWORK",
        fmt::format("expected a checkpoint of the job's network, found another one: tensor {} of "
                    "the job is {}, of the checkpoint {}; leave the job's model out, or name a "
                    "checkpoint of this network",
                    i + 1, Describe(expected, i), Describe(found, i)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckDenseNetwork(const tensor::ModelLayout& expected,
                               const checkpoint::CheckpointReader& found) {
  ESPALIER_RETURN_IF_ERROR(CheckTensors(expected, found.layout()));
  for (size_t i = 0; i < expected.size(); ++i) {
    if (!found.is_sparse(i)) continue;
    return base::FailedPrecondition(
        "SPARSE_CHECKPOINT",
        fmt::format("expected a dense checkpoint, found one of density {:.4g} whose {} is sparse; "
                    "name a checkpoint of a job with method dense",
                    found.density(), found.layout()[i].name));
  }
  return absl::OkStatus();
}

}  // namespace espalier::server::pretrained
