#include "server/round/extras.h"

#include <fmt/core.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "common/base/status.h"
#include "common/wire/topology_codec.h"
#include "common/wire/values_codec.h"

namespace espalier::server::round {
namespace {

// Room for the message around a list.
constexpr uint64_t kOverhead = 64;
// A position takes at most 8 bytes, a score 4 more.
constexpr uint64_t kPositionBytes = 8;
constexpr uint64_t kScoreBytes = 12;

int64_t Inactive(const tensor::ModelTopology& model, size_t tensor) {
  return model.is_sparse(tensor) ? model.topology(tensor).size() - model.stored(tensor) : 0;
}

// The most scores that `task` asks for, per tensor; empty when it asks for none at all.
std::vector<int64_t> AskedScores(const v1::Task& task, const tensor::ModelTopology& model) {
  if (task.has_train()) {
    const auto& candidates = task.train().growth_candidates();
    return {candidates.begin(), candidates.end()};
  }
  if (!task.has_growth()) return {};
  const v1::GrowthTask& growth = task.growth();
  std::vector<int64_t> asked(model.num_tensors(), 0);
  for (size_t i = 0; i < asked.size(); ++i) {
    const int index = static_cast<int>(i);
    const bool open = index < growth.thresholds_size() && growth.thresholds(index) > 0;
    if (index < growth.counts_size()) asked[i] += growth.counts(index);
    if (index < growth.positions_size()) {
      asked[i] += static_cast<int64_t>(growth.positions(index).count());
    }
    asked[i] = open ? Inactive(model, i) : std::min(asked[i], Inactive(model, i));
  }
  return asked;
}

absl::Status Invalid(const std::string& what) {
  return base::InvalidArgument("READJUSTMENT_INVALID", "changed structure refused: " + what);
}

// Weights of `updated` that `base` does not have.
int64_t CountGrown(const tensor::Topology& base, const tensor::Topology& updated) {
  const std::vector<int32_t> source = tensor::SourceIndices(base, updated);
  return std::ranges::count(source, -1);
}

absl::Status AddStructure(const v1::Readjustment& asked, const tensor::ModelTopology& model,
                          std::string_view bytes, reduce::Partial& partial) {
  v1::TopologyUpdate update;
  if (bytes.size() > std::numeric_limits<int>::max() ||
      !update.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return Invalid("expected a TopologyUpdate after the values, found other bytes");
  }
  ESPALIER_ASSIGN_OR_RETURN(partial.topology,
                            wire::ApplyTopologyUpdate(model, update, model.sparsifiable_stored()));
  for (size_t i = 0; i < model.num_tensors(); ++i) {
    if (!model.is_sparse(i)) continue;
    const std::string& name = model.layout()[i].name;
    const tensor::Topology& updated = partial.topology->topology(i);
    if (updated.nnz() != model.stored(i)) {
      return Invalid(fmt::format("{}: expected {} active weights, found {}", name, model.stored(i),
                                 updated.nnz()));
    }
    const int64_t wanted =
        static_cast<int>(i) < asked.counts_size() ? asked.counts(static_cast<int>(i)) : 0;
    const int64_t grown = CountGrown(model.topology(i), updated);
    if (grown != wanted) {
      return Invalid(
          fmt::format("{}: expected {} weights in new places, found {}", name, wanted, grown));
    }
  }
  return absl::OkStatus();
}

}  // namespace

uint64_t MaxBodyBytes(const v1::Task& task, const tensor::ModelTopology& model,
                      int64_t values_count) {
  uint64_t most = static_cast<uint64_t>(values_count) * sizeof(float);
  if (task.train().has_readjustment()) {
    most += 4 * kOverhead;  // two hashes
    for (const int64_t count : task.train().readjustment().counts()) {
      most += 2 * (kOverhead + kPositionBytes * static_cast<uint64_t>(count));
    }
  }
  const std::vector<int64_t> asked = AskedScores(task, model);
  if (asked.empty()) return most;
  most += kOverhead;
  for (const int64_t count : asked) most += kOverhead + kScoreBytes * static_cast<uint64_t>(count);
  return most;
}

absl::Status AddExtras(const v1::Task& task, const tensor::ModelTopology& model,
                       std::string_view bytes, reduce::Partial& partial) {
  if (task.train().has_readjustment()) {
    return AddStructure(task.train().readjustment(), model, bytes, partial);
  }
  std::vector<int64_t> asked = AskedScores(task, model);
  if (bytes.empty() && asked.empty()) return absl::OkStatus();
  asked.resize(model.num_tensors(), 0);
  ESPALIER_ASSIGN_OR_RETURN(auto lists, wire::DecodeScores(bytes, model.layout(), asked));
  for (wire::TensorScores& list : lists) {
    partial.scores.push_back({std::move(list.positions), std::move(list.values)});
  }
  return absl::OkStatus();
}

}  // namespace espalier::server::round
