#include "common/wire/model_spec/channel_groups.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "common/base/status.h"
#include "common/wire/model_spec/layer_descriptor.h"
#include "common/wire/model_spec/model_spec.h"
#include "common/wire/model_spec/named_models.h"

namespace espalier::wire {
namespace {

// What flows between two layers: a shape, and the group that its channels belong to.
struct Flow {
  FeatureShape shape;
  size_t group = 0;
};

// Follows channels through layers whose shapes are known to fit.
class GroupFinder {
 public:
  Flow AddGroup(const FeatureShape& shape) {
    groups_.push_back({.channels = shape.channels});
    merged_into_.push_back(groups_.size() - 1);
    return {shape, groups_.size() - 1};
  }

  absl::StatusOr<Flow> Through(const Layers& layers, Flow flow) {
    for (const v1::Layer& layer : layers) {
      ESPALIER_ASSIGN_OR_RETURN(flow, Through(layer, flow));
    }
    return flow;
  }

  void Fix(const Flow& flow) { groups_[Find(flow.group)].fixed = true; }

  // Those that have not become part of another one.
  std::vector<ChannelGroup> Take() {
    std::vector<ChannelGroup> groups;
    for (size_t i = 0; i < groups_.size(); ++i) {
      if (merged_into_[i] == i) groups.push_back(std::move(groups_[i]));
    }
    return groups;
  }

 private:
  absl::StatusOr<Flow> Through(const v1::Layer& layer, const Flow& input) {
    ESPALIER_ASSIGN_OR_RETURN(const LayerDescriptor* kind, KindOf(layer));
    std::vector<size_t> branches;
    for (const Branch& branch : kind->Branches(layer)) {
      ESPALIER_ASSIGN_OR_RETURN(const Flow end, Through(*branch.layers, input));
      branches.push_back(end.group);
    }
    ESPALIER_ASSIGN_OR_RETURN(const FeatureShape shape, kind->OutputShape(layer, input.shape));
    const Flow output = OutputOf(kind->channel_flow(), shape, input, branches);
    for (const LayerTensor& tensor : kind->Tensors(layer, input.shape, shape)) {
      AddMembers(tensor, input, output);
    }
    return output;
  }

  Flow OutputOf(ChannelFlow from, const FeatureShape& shape, const Flow& input,
                const std::vector<size_t>& branches) {
    switch (from) {
      case ChannelFlow::kNew:
        return AddGroup(shape);
      case ChannelFlow::kKept:
        return {shape, input.group};
      case ChannelFlow::kSum:
        break;
    }
    for (const size_t branch : branches) Merge(branches.front(), branch);
    return {shape, branches.front()};
  }

  void AddMembers(const LayerTensor& tensor, const Flow& input, const Flow& output) {
    const size_t index = next_tensor_++;
    const int64_t rows = tensor.shape.front();
    int64_t cols = 1;
    for (size_t i = 1; i < tensor.shape.size(); ++i) cols *= tensor.shape[i];
    if (tensor.rows_of_outputs) AddMember(output, index, ChannelMember::Axis::kRows, rows);
    if (tensor.columns_of_inputs) AddMember(input, index, ChannelMember::Axis::kColumns, cols);
  }

  void AddMember(const Flow& flow, size_t tensor, ChannelMember::Axis axis, int64_t size) {
    ChannelGroup& group = groups_[Find(flow.group)];
    group.members.push_back({.tensor = tensor, .axis = axis, .width = size / group.channels});
  }

  size_t Find(size_t group) const {
    while (merged_into_[group] != group) group = merged_into_[group];
    return group;
  }

  // The later one becomes part of the earlier one.
  void Merge(size_t a, size_t b) {
    const size_t first = std::min(Find(a), Find(b));
    const size_t second = std::max(Find(a), Find(b));
    if (first == second) return;
    merged_into_[second] = first;
    ChannelGroup& into = groups_[first];
    std::vector<ChannelMember> both;
    std::ranges::merge(into.members, groups_[second].members, std::back_inserter(both), {}, Order,
                       Order);
    into.members = std::move(both);
    into.fixed |= groups_[second].fixed;
  }

  static std::pair<size_t, ChannelMember::Axis> Order(const ChannelMember& member) {
    return {member.tensor, member.axis};
  }

  std::vector<ChannelGroup> groups_;
  std::vector<size_t> merged_into_;  // by group; itself when it is still one of its own
  size_t next_tensor_ = 0;
};

}  // namespace

absl::StatusOr<std::vector<ChannelGroup>> ChannelGroups(const v1::ModelSpec& spec) {
  ESPALIER_RETURN_IF_ERROR(TensorsOf(spec).status());
  const v1::ModelSpec model = ExplicitModel(spec);
  if (model.layers().empty()) {
    return base::InvalidArgument("NO_CHANNELS",
                                 "expected a model of layers, whose channels can be told apart, "
                                 "found a recommender or transformer; use a model with layers");
  }
  GroupFinder finder;
  const Flow input = finder.AddGroup(InputShape(model));
  ESPALIER_ASSIGN_OR_RETURN(const Flow output, finder.Through(model.layers(), input));
  finder.Fix(input);
  finder.Fix(output);
  return finder.Take();
}

}  // namespace espalier::wire
