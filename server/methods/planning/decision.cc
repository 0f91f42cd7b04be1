#include "server/methods/planning/decision.h"

#include <fmt/core.h>

#include <algorithm>
#include <iterator>
#include <vector>

#include "common/base/status.h"
#include "common/io/byte_codec.h"

namespace espalier::server::methods {
namespace {

absl::Status Invalid(const std::string& what) {
  return base::InvalidArgument("INVALID_DECISION", what);
}

// The first number that is not above the one before it, or not within [0, size); nullptr when all
// are well.
template <typename T>
const T* FirstOutOfOrder(const std::vector<T>& numbers, int64_t size) {
  for (size_t i = 0; i < numbers.size(); ++i) {
    const bool ascends = i == 0 || numbers[i - 1] < numbers[i];
    if (!ascends || numbers[i] < 0 || numbers[i] >= size) return &numbers[i];
  }
  return nullptr;
}

// The first of `positions` whose weight is there and stays; -1 when there is none.
int64_t FirstThatStays(const tensor::Topology& topology, const tensor::TopologyDiff& diff) {
  std::vector<int64_t> kept;
  const std::vector<int64_t> there = topology.Positions();
  auto gone = diff.dropped.begin();
  for (size_t i = 0; i < there.size(); ++i) {
    if (gone != diff.dropped.end() && *gone == static_cast<int32_t>(i)) {
      ++gone;
    } else {
      kept.push_back(there[i]);
    }
  }
  std::vector<int64_t> both;
  std::ranges::set_intersection(kept, diff.grown, std::back_inserter(both));
  return both.empty() ? -1 : both.front();
}

absl::Status CheckTensor(const tensor::TensorSpec& tensor, const tensor::Topology& topology,
                         const StructureChange::Tensor& change, int64_t most) {
  const tensor::TopologyDiff& diff = change.diff;
  const int64_t stored = topology.nnz();
  if (const int32_t* index = FirstOutOfOrder(diff.dropped, stored)) {
    return Invalid(
        fmt::format("expected dropped indices of \"{}\" in ascending order, from 0 to "
                    "{}, found {}",
                    tensor.name, stored - 1, *index));
  }
  if (const int64_t* position = FirstOutOfOrder(diff.grown, tensor.size())) {
    return Invalid(
        fmt::format("expected grown positions of \"{}\" in ascending order, from 0 to "
                    "{}, found {}",
                    tensor.name, tensor.size() - 1, *position));
  }
  if (change.growth_key.has_value() && !diff.grown.empty()) {
    return Invalid(
        fmt::format("expected either a growth key or positions to grow for \"{}\", "
                    "found both",
                    tensor.name));
  }
  if (const int64_t position = FirstThatStays(topology, diff); position >= 0) {
    return Invalid(
        fmt::format("expected positions of \"{}\" without a weight, found {}, whose "
                    "weight stays",
                    tensor.name, position));
  }
  const auto dropped = static_cast<int64_t>(diff.dropped.size());
  const auto grown =
      change.growth_key.has_value() ? dropped : static_cast<int64_t>(diff.grown.size());
  const int64_t left = stored - dropped + grown;
  if (left < 1 || left > most) {
    return Invalid(fmt::format("expected 1 to {} weights of \"{}\" after the change, found {}",
                               most, tensor.name, left));
  }
  return absl::OkStatus();
}

}  // namespace

std::string EncodeDecision(const Evolution& decision) {
  Evolution sent = decision;
  for (StructureChange::Tensor& change : sent) {
    if (change.growth_key.has_value()) change.diff.grown.clear();
  }
  std::string bytes;
  io::ByteWriter writer(bytes);
  PutEvolution(sent, writer);
  return bytes;
}

absl::StatusOr<Evolution> ReadDecision(const tensor::ModelTopology& topology,
                                       std::span<const int64_t> most, std::string_view bytes) {
  if (bytes.empty()) return Evolution{};
  io::ByteReader reader(bytes);
  Evolution decision = GetEvolution(reader);
  if (!reader.ok() || !reader.at_end()) {
    return Invalid("expected the bytes of one decision, found them damaged or cut off");
  }
  const StructureChange::Tensor* before = nullptr;
  for (StructureChange::Tensor& change : decision) {
    const bool ascends = before == nullptr || before->tensor < change.tensor;
    if (!ascends || change.tensor >= topology.num_tensors() || !topology.is_sparse(change.tensor)) {
      return Invalid(
          fmt::format("expected sparse tensors of the model in ascending order, found "
                      "tensor {} of {}",
                      change.tensor, topology.num_tensors()));
    }
    ESPALIER_RETURN_IF_ERROR(CheckTensor(topology.layout()[change.tensor],
                                         topology.topology(change.tensor), change,
                                         most[change.tensor]));
    if (change.growth_key.has_value()) GrowAtRandom(topology, *change.growth_key, change);
    before = &change;
  }
  return decision;
}

}  // namespace espalier::server::methods
