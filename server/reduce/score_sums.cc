#include "server/reduce/score_sums.h"

#include <fmt/core.h>

#include <algorithm>
#include <span>
#include <utility>

#include "common/base/status.h"
#include "common/sparsity/grow.h"
#include "server/reduce/saved.h"

namespace espalier::server::reduce {
namespace {

absl::Status CheckPositions(const tensor::ModelTopology& model, size_t tensor,
                            const ScoreList& list) {
  if (list.positions.empty()) return absl::OkStatus();
  const std::string& name = model.layout()[tensor].name;
  if (!model.is_sparse(tensor)) {
    return base::InvalidArgument(
        "VALUE_IMPOSSIBLE",
        fmt::format("{}: expected no scores, since all weights are active, found {}", name,
                    list.positions.size()));
  }
  const absl::Status status = sparsity::CheckCandidates(model.topology(tensor), list.positions);
  if (status.ok()) return status;
  return base::InvalidArgument("VALUE_IMPOSSIBLE",
                               fmt::format("{}: {}", name, base::MessageOf(status)));
}

}  // namespace

absl::Status ScoreSums::Check(const std::vector<ScoreList>& lists) const {
  if (lists.empty()) return absl::OkStatus();
  if (lists.size() != topology_->num_tensors()) {
    return base::InvalidArgument(
        "SHAPE_MISMATCH", fmt::format("expected a score list for each of {} tensors, found {}",
                                      topology_->num_tensors(), lists.size()));
  }
  for (size_t i = 0; i < lists.size(); ++i) {
    const tensor::TensorSpec& spec = topology_->layout()[i];
    if (lists[i].positions.size() != lists[i].values.size()) {
      return base::InvalidArgument("SHAPE_MISMATCH",
                                   fmt::format("{}: found {} positions but {} scores", spec.name,
                                               lists[i].positions.size(), lists[i].values.size()));
    }
    ESPALIER_RETURN_IF_ERROR(CheckPositions(*topology_, i, lists[i]));
  }
  return absl::OkStatus();
}

uint32_t ScoreSums::LargestMagnitude(const std::vector<ScoreList>& lists) {
  uint32_t largest = 0;
  for (const ScoreList& list : lists) {
    largest = std::max(largest, LargestMagnitudeBits(list.values));
  }
  return largest;
}

void ScoreSums::Merge(const Sums& addition, Sums& sums) {
  Sums merged;
  merged.positions.reserve(sums.positions.size() + addition.positions.size());
  merged.sums.reserve(sums.positions.size() + addition.positions.size());
  size_t old = 0;
  for (size_t i = 0; i < addition.positions.size(); ++i) {
    const int64_t position = addition.positions[i];
    for (; old < sums.positions.size() && sums.positions[old] < position; ++old) {
      merged.positions.push_back(sums.positions[old]);
      merged.sums.push_back(sums.sums[old]);
    }
    FixedPoint sum = addition.sums[i];
    if (old < sums.positions.size() && sums.positions[old] == position) {
      sum = Plus(sum, sums.sums[old++]);
    }
    merged.positions.push_back(position);
    merged.sums.push_back(sum);
  }
  merged.positions.insert(merged.positions.end(), sums.positions.begin() + old,
                          sums.positions.end());
  merged.sums.insert(merged.sums.end(), sums.sums.begin() + old, sums.sums.end());
  sums = std::move(merged);
}

void ScoreSums::Add(const std::vector<ScoreList>& lists, int64_t weight) {
  if (lists.empty()) return;
  tensors_.resize(topology_->num_tensors());
  for (size_t i = 0; i < lists.size(); ++i) {
    Sums addition{lists[i].positions, {}};
    addition.sums.reserve(lists[i].values.size());
    for (const float value : lists[i].values) addition.sums.push_back(ToFixedPoint(value, weight));
    Merge(addition, tensors_[i]);
  }
}

void ScoreSums::Save(io::ByteWriter& writer) const {
  writer.Put<uint64_t>(tensors_.size());
  for (const Sums& tensor : tensors_) {
    writer.PutArray(std::span<const int64_t>(tensor.positions));
    writer.PutArray(std::span<const FixedPoint>(tensor.sums));
  }
}

absl::StatusOr<ScoreSums> ScoreSums::Read(std::shared_ptr<const tensor::ModelTopology> topology,
                                          io::ByteReader& reader) {
  ScoreSums read(std::move(topology));
  const auto count = reader.Get<uint64_t>();
  if (!reader.ok() || (count != 0 && count != read.topology_->num_tensors())) {
    return SavedError("number of tensors with scores");
  }
  for (uint64_t i = 0; i < count; ++i) {
    ScoreList list;
    list.positions = reader.GetArray<int64_t>();
    std::vector<FixedPoint> sums = reader.GetArray<FixedPoint>();
    if (!reader.ok() || sums.size() != list.positions.size() ||
        !CheckPositions(*read.topology_, i, list).ok()) {
      return SavedError("positions with scores");
    }
    read.tensors_.push_back({std::move(list.positions), std::move(sums)});
  }
  return read;
}

void ScoreSums::Absorb(const ScoreSums& other) {
  if (other.tensors_.empty()) return;
  tensors_.resize(topology_->num_tensors());
  for (size_t i = 0; i < tensors_.size(); ++i) Merge(other.tensors_[i], tensors_[i]);
}

std::vector<ScoreList> ScoreSums::Means(double total_weight) const {
  std::vector<ScoreList> means(tensors_.size());
  for (size_t i = 0; i < tensors_.size(); ++i) {
    means[i].positions = tensors_[i].positions;
    means[i].values.reserve(tensors_[i].sums.size());
    for (const FixedPoint sum : tensors_[i].sums) {
      means[i].values.push_back(MeanFromFixedPoint(sum, total_weight));
    }
  }
  return means;
}

}  // namespace espalier::server::reduce
