#include "server/reduce/owners_reducer.h"

#include <fmt/core.h>

#include <algorithm>
#include <span>
#include <utility>

#include "common/base/status.h"
#include "common/io/byte_codec.h"
#include "common/sparsity/grow.h"
#include "server/reduce/saved.h"

namespace espalier::server::reduce {

OwnersReducer::OwnersReducer(std::shared_ptr<const tensor::ModelTopology> topology,
                             const wire::ResultLayout& layout)
    : topology_(std::move(topology)),
      check_(layout),
      sums_(topology_->total_stored(), 0),
      weights_(topology_->total_stored(), 0),
      grown_(topology_->num_tensors()) {}

absl::Status OwnersReducer::CheckShape(const Partial& partial) const {
  if (!partial.scores.empty()) {
    return base::InvalidArgument(
        "SHAPE_MISMATCH",
        fmt::format("expected no growth scores, found {} lists", partial.scores.size()));
  }
  if (check_.values_count() != topology_->total_stored()) {
    return ValueCountError(topology_->total_stored(), check_.values_count());
  }
  if (partial.topology == nullptr) return absl::OkStatus();
  if (partial.topology->layout() != topology_->layout()) {
    return base::InvalidArgument("SHAPE_MISMATCH", "expected a structure of the step's model");
  }
  for (size_t i = 0; i < topology_->num_tensors(); ++i) {
    if (partial.topology->is_sparse(i) == topology_->is_sparse(i) &&
        partial.topology->stored(i) == topology_->stored(i)) {
      continue;
    }
    return base::InvalidArgument(
        "SHAPE_MISMATCH",
        fmt::format("{}: expected {} active weights as before the change, found {}",
                    topology_->layout()[i].name, topology_->stored(i),
                    partial.topology->stored(i)));
  }
  return absl::OkStatus();
}

void OwnersReducer::AddPiece(size_t tensor, int64_t first, std::span<const float> piece,
                             Addition& addition) {
  const int64_t offset = topology_->offset(tensor);
  for (size_t i = 0; i < piece.size(); ++i) {
    const int64_t index = first + static_cast<int64_t>(i);
    const FixedPoint term = ToFixedPoint(piece[i], addition.examples);
    const int64_t source = addition.source.empty() ? index : addition.source[index];
    if (source < 0) {
      addition.grown.push_back({addition.positions[index], term, addition.examples});
      continue;
    }
    FixedPoint& sum = sums_[offset + source];
    sum = Plus(sum, term);
    weights_[offset + source] += addition.examples;
  }
}

void OwnersReducer::Merge(const std::vector<Owned>& addition, std::vector<Owned>& all) {
  std::vector<Owned> merged;
  merged.reserve(addition.size() + all.size());
  auto old = all.begin();
  for (const Owned& entry : addition) {
    while (old != all.end() && old->position < entry.position) merged.push_back(*old++);
    merged.push_back(entry);
    if (old == all.end() || old->position != entry.position) continue;
    merged.back().sum = Plus(entry.sum, old->sum);
    merged.back().weight += old->weight;
    ++old;
  }
  merged.insert(merged.end(), old, all.end());
  all = std::move(merged);
}

absl::Status OwnersReducer::Accumulate(const Partial& partial) {
  const tensor::ModelTopology& theirs = partial.topology ? *partial.topology : *topology_;
  size_t tensor = 0;
  int64_t done = 0;  // weights of it
  Addition addition{.examples = partial.examples, .source = {}, .positions = {}, .grown = {}};
  const auto begin = [&] {
    addition.source.clear();
    addition.positions.clear();
    if (!theirs.is_sparse(tensor) || theirs.topology(tensor) == topology_->topology(tensor)) return;
    addition.source = tensor::SourceIndices(topology_->topology(tensor), theirs.topology(tensor));
    addition.positions = theirs.topology(tensor).Positions();
  };
  const auto end = [&] {
    Merge(addition.grown, grown_[tensor]);
    addition.grown.clear();
    ++tensor;
    done = 0;
  };
  if (!partial.values) return absl::OkStatus();
  int64_t seen = 0;
  ESPALIER_RETURN_IF_ERROR(partial.values([&](std::span<const float> piece) -> absl::Status {
    seen += static_cast<int64_t>(piece.size());
    if (seen > theirs.total_stored()) return ValueCountError(theirs.total_stored(), seen);
    while (!piece.empty()) {
      const int64_t left = theirs.stored(tensor) - done;
      if (done == 0 && left > 0) begin();
      const auto size = std::min<size_t>(piece.size(), static_cast<size_t>(left));
      AddPiece(tensor, done, piece.first(size), addition);
      done += static_cast<int64_t>(size);
      piece = piece.subspan(size);
      if (done == theirs.stored(tensor)) end();
    }
    return absl::OkStatus();
  }));
  return seen == theirs.total_stored() ? absl::OkStatus()
                                       : ValueCountError(theirs.total_stored(), seen);
}

absl::Status OwnersReducer::Merge(const Partial& partial) {
  if (broken_) return BrokenReducer();
  ESPALIER_RETURN_IF_ERROR(ledger_.Check(partial));
  ESPALIER_RETURN_IF_ERROR(CheckShape(partial));
  ESPALIER_ASSIGN_OR_RETURN(const uint32_t largest, check_.Inspect(partial));
  ESPALIER_ASSIGN_OR_RETURN(const FixedPoint bound, SumBound::Of(largest, partial.examples));
  if (absl::Status status = Accumulate(partial); !status.ok()) {
    broken_ = true;
    return BrokenReducer(partial.participant, status);
  }
  ledger_.Add(partial);
  bound_.Add(bound);
  return absl::OkStatus();
}

absl::StatusOr<std::string> OwnersReducer::Save() const {
  if (broken_) return BrokenReducer();
  std::string fields;
  io::ByteWriter writer(fields);
  ledger_.Save(writer);
  writer.PutArray(std::span<const FixedPoint>(sums_));
  writer.PutArray(std::span<const int64_t>(weights_));
  for (const std::vector<Owned>& grown : grown_) {
    writer.Put<uint64_t>(grown.size());
    for (const Owned& owned : grown) {
      writer.Put<int64_t>(owned.position);
      writer.Put<FixedPoint>(owned.sum);
      writer.Put<int64_t>(owned.weight);
    }
  }
  writer.Put<FixedPoint>(bound_.total());
  return SealSaved(SavedKind::kOwners, fields);
}

absl::StatusOr<std::vector<OwnersReducer::Owned>> OwnersReducer::ReadGrown(
    size_t tensor, io::ByteReader& reader) const {
  std::vector<Owned> grown;
  std::vector<int64_t> positions;
  const auto count = reader.Get<uint64_t>();
  for (uint64_t i = 0; i < count && reader.ok(); ++i) {
    Owned owned{};
    owned.position = reader.Get<int64_t>();
    owned.sum = reader.Get<FixedPoint>();
    owned.weight = reader.Get<int64_t>();
    if (owned.weight < 0) return SavedError("weight of a grown position");
    positions.push_back(owned.position);
    grown.push_back(owned);
  }
  const bool fits =
      positions.empty() || (reader.ok() && topology_->is_sparse(tensor) &&
                            sparsity::CheckCandidates(topology_->topology(tensor), positions).ok());
  if (!fits) return SavedError("grown positions");
  return grown;
}

absl::Status OwnersReducer::Absorb(std::string_view saved) {
  if (broken_) return BrokenReducer();
  ESPALIER_ASSIGN_OR_RETURN(const std::string_view fields, OpenSaved(SavedKind::kOwners, saved));
  io::ByteReader reader(fields);
  ESPALIER_ASSIGN_OR_RETURN(Ledger ledger, Ledger::Read(/*min_examples=*/1, reader));
  const auto sums = reader.GetArray<FixedPoint>();
  const auto weights = reader.GetArray<int64_t>();
  if (sums.size() != sums_.size() || weights.size() != weights_.size()) {
    return SavedError("number of values");
  }
  std::vector<std::vector<Owned>> grown;
  for (size_t i = 0; i < grown_.size(); ++i) {
    ESPALIER_ASSIGN_OR_RETURN(grown.emplace_back(), ReadGrown(i, reader));
  }
  const auto bound = reader.Get<FixedPoint>();
  if (!reader.ok() || !reader.at_end() || bound < 0 || bound > SumBound::kMost)
    return SavedError("bound");
  ESPALIER_RETURN_IF_ERROR(ledger_.CheckAbsorb(ledger));
  ledger_.Absorb(std::move(ledger));
  AddSums(sums, sums_);
  for (size_t i = 0; i < weights_.size(); ++i) weights_[i] += weights[i];
  for (size_t i = 0; i < grown_.size(); ++i) Merge(grown[i], grown_[i]);
  bound_.Add(bound);
  return absl::OkStatus();
}

absl::StatusOr<tensor::Topology> OwnersReducer::FinishTensor(size_t tensor,
                                                             std::vector<float>& values) const {
  const tensor::Topology& base = topology_->topology(tensor);
  const std::vector<int64_t> old = base.Positions();
  const std::vector<Owned>& grown = grown_[tensor];
  const int64_t offset = topology_->offset(tensor);
  std::vector<int64_t> positions;
  size_t next = 0;
  const auto take_grown = [&](int64_t before) {
    for (; next < grown.size() && grown[next].position < before; ++next) {
      positions.push_back(grown[next].position);
      values.push_back(
          MeanFromFixedPoint(grown[next].sum, static_cast<double>(grown[next].weight)));
    }
  };
  for (size_t i = 0; i < old.size(); ++i) {
    take_grown(old[i]);
    const int64_t weight = weights_[offset + static_cast<int64_t>(i)];
    if (weight == 0) continue;
    positions.push_back(old[i]);
    values.push_back(
        MeanFromFixedPoint(sums_[offset + static_cast<int64_t>(i)], static_cast<double>(weight)));
  }
  take_grown(base.size());
  return tensor::Topology::FromPositions(base.rows(), base.cols(), positions);
}

absl::StatusOr<Reduced> OwnersReducer::Finish() {
  if (broken_) return BrokenReducer();
  ESPALIER_ASSIGN_OR_RETURN(Reduced reduced, ledger_.Finish());
  ESPALIER_RETURN_IF_ERROR(bound_.Check());
  std::vector<std::shared_ptr<const tensor::Topology>> topologies(topology_->num_tensors());
  std::vector<float> means;
  for (size_t i = 0; i < topologies.size(); ++i) {
    if (topology_->is_sparse(i)) {
      ESPALIER_ASSIGN_OR_RETURN(tensor::Topology united, FinishTensor(i, means));
      topologies[i] = std::make_shared<const tensor::Topology>(std::move(united));
      continue;
    }
    for (int64_t k = topology_->offset(i); k < topology_->offset(i) + topology_->stored(i); ++k) {
      means.push_back(MeanFromFixedPoint(sums_[k], static_cast<double>(weights_[k])));
    }
  }
  ESPALIER_ASSIGN_OR_RETURN(
      tensor::ModelTopology united,
      tensor::ModelTopology::Create(topology_->shared_layout(), std::move(topologies)));
  reduced.topology = std::make_shared<const tensor::ModelTopology>(std::move(united));
  reduced.sections[v1::SECTION_KIND_VALUES] = std::move(means);
  sums_ = {};
  weights_ = {};
  grown_ = {};
  return reduced;
}

}  // namespace espalier::server::reduce
