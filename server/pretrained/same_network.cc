#include "server/pretrained/same_network.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string>
#include <utility>

#include "common/base/status.h"
#include "common/language/named_tensors.h"
#include "common/wire/model_spec/transformer.h"

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

// `found`: what the checkpoint is.
absl::Status SparseCheckpoint(const std::string& found) {
  return base::FailedPrecondition(
      "SPARSE_CHECKPOINT",
      fmt::format("expected a dense checkpoint, found {}; name a checkpoint of a job with method "
                  "dense, or use a method that keeps what a sparse one stores (finetune, static, "
                  "set, rigl)",
                  found));
}

// The tensors of a language model as its files have them.
tensor::ModelLayout FileLayout(const language::TransformerConfig& config) {
  tensor::ModelLayout layout;
  for (language::StoredTensor& stored : language::AllTensors(config)) {
    tensor::TensorSpec& spec = layout.emplace_back();
    spec.name = std::move(stored.name);
    spec.shape = std::move(stored.shape);
  }
  return layout;
}

}  // namespace

absl::Status CheckNetwork(const tensor::ModelLayout& expected,
                          const espalier::checkpoint::CheckpointReader& found) {
  return CheckTensors(expected, found.layout());
}

absl::Status CheckDenseNetwork(const tensor::ModelLayout& expected,
                               const espalier::checkpoint::CheckpointReader& found) {
  ESPALIER_RETURN_IF_ERROR(CheckNetwork(expected, found));
  for (size_t i = 0; i < expected.size(); ++i) {
    if (!found.is_sparse(i)) continue;
    return SparseCheckpoint(fmt::format("one of density {:.4g} whose {} is sparse", found.density(),
                                        found.layout()[i].name));
  }
  return absl::OkStatus();
}

absl::Status CheckLanguageModel(const v1::TransformerSpec& expected,
                                const language::CheckpointReader& found) {
  ESPALIER_ASSIGN_OR_RETURN(const auto config, wire::ConfigOf(expected, found.config().context));
  return CheckTensors(FileLayout(config), FileLayout(found.config()));
}

absl::Status CheckDenseLanguageModel(const v1::TransformerSpec& expected,
                                     const language::CheckpointReader& found) {
  ESPALIER_RETURN_IF_ERROR(CheckLanguageModel(expected, found));
  const language::NamedTensors tensors(found);
  for (const language::StoredTensor& tensor : language::AllTensors(found.config())) {
    int64_t size = 1;
    for (const int64_t dimension : tensor.shape) size *= dimension;
    if (tensors.Stored(tensor.name) < size) {
      return SparseCheckpoint(fmt::format("one whose {} is sparse", tensor.name));
    }
  }
  return absl::OkStatus();
}

}  // namespace espalier::server::pretrained
