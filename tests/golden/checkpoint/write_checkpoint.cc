// Writes checkpoint.safetensors and expected.json (each tensor, and its momentum, as a dense list)
// into the given folder.
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "common/checkpoint/checkpoint_file.h"
#include "common/io/atomic_file.h"
#include "common/io/file_system.h"
#include "common/tensor/model.h"

namespace espalier {
namespace {

// Every `step`-th position of a matrix, beginning with the first; none for step 0.
absl::StatusOr<tensor::Topology> EveryNth(int64_t rows, int64_t cols, int64_t step) {
  std::vector<int64_t> positions;
  for (int64_t position = 0; step > 0 && position < rows * cols; position += step) {
    positions.push_back(position);
  }
  return tensor::Topology::FromPositions(rows, cols, positions);
}

absl::StatusOr<tensor::ModelState> MakeState() {
  auto layout = std::make_shared<const tensor::ModelLayout>(
      tensor::ModelLayout{{"layers.0.weight", {6, 9}, 6, 9, true},
                          {"layers.0.bias", {6}, 6, 1, false},
                          {"layers.1.weight", {5, 1}, 5, 1, true},
                          {"layers.2.weight", {3, 4}, 3, 4, true},
                          {"layers.3.weight", {2, 3, 2}, 2, 6, true},
                          {"layers.4.weight", {2, 3, 2}, 2, 6, false}});
  const std::vector<int64_t> steps = {4, -1, 2, 0, 1, -1};
  std::vector<std::shared_ptr<const tensor::Topology>> topologies(layout->size());
  for (size_t i = 0; i < layout->size(); ++i) {
    if (steps[i] >= 0) {
      ESPALIER_ASSIGN_OR_RETURN(tensor::Topology topology,
                                EveryNth((*layout)[i].rows, (*layout)[i].cols, steps[i]));
      topologies[i] = std::make_shared<const tensor::Topology>(std::move(topology));
    }
  }
  ESPALIER_ASSIGN_OR_RETURN(tensor::ModelTopology topology,
                            tensor::ModelTopology::Create(layout, std::move(topologies)));
  tensor::ModelState state;
  state.topology = std::make_shared<const tensor::ModelTopology>(std::move(topology));
  for (int64_t i = 0; i < state.topology->total_stored(); ++i) {
    state.values.push_back(0.1f * static_cast<float>(i + 1));
    state.optimizer_state.push_back(-0.3f * static_cast<float>(i + 1));
  }
  return state;
}

nlohmann::json Densified(const tensor::ModelState& state) {
  nlohmann::json all = nlohmann::json::object();
  for (size_t i = 0; i < state.topology->num_tensors(); ++i) {
    const tensor::TensorSpec& spec = state.topology->layout()[i];
    std::vector<float> dense(static_cast<size_t>(spec.size()));
    const auto values = state.tensor(i);
    std::vector<int64_t> positions;
    if (state.topology->is_sparse(i)) {
      positions = state.topology->topology(i).Positions();
    }
    for (size_t k = 0; k < values.size(); ++k) {
      dense[state.topology->is_sparse(i) ? positions[k] : k] = values[k];
    }
    all[spec.name] = {{"shape", spec.shape}, {"values", dense}};
  }
  return all;
}

absl::Status Run(const std::string& folder) {
  io::FileSystem& files = io::PosixFileSystem();
  ESPALIER_ASSIGN_OR_RETURN(const tensor::ModelState state, MakeState());
  checkpoint::CheckpointMetadata metadata;
  metadata.job = "golden";
  metadata.round = 3;
  metadata.model_spec.set_input_features(9);
  metadata.optimizer.emplace();
  metadata.optimizer->optimizer.set_kind(v1::Optimizer::KIND_SGD);
  metadata.optimizer->optimizer.set_momentum(0.9);
  metadata.optimizer->steps = 12;
  metadata.main_metric_name = "accuracy";
  metadata.main_metric = 0.875;
  metadata.create_time = absl::FromUnixSeconds(1'700'000'000);
  ESPALIER_ASSIGN_OR_RETURN(
      const checkpoint::WrittenFile written,
      checkpoint::WriteCheckpointFile(files, folder + "/checkpoint.safetensors", state, metadata));
  const tensor::ModelState momentum{state.topology, state.optimizer_state};
  const nlohmann::json expected = {{"tensors", Densified(state)},
                                   {"momentum", Densified(momentum)},
                                   {"topology_hash", state.topology->hash()},
                                   {"sha256", written.sha256}};
  return io::WriteAtomically(files, folder + "/expected.json", expected.dump());
}

}  // namespace
}  // namespace espalier

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: write_checkpoint FOLDER\n");
    return 64;
  }
  const absl::Status status = espalier::Run(argv[1]);
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", espalier::base::MessageOf(status).c_str());
    return 1;
  }
  return 0;
}
