// ChannelGroups: which rows and columns of which tensors belong to the same channel of a network,
// and so live or die together when channels are removed.
//
// Channels are those of a convolution's output or the units of a linear layer. Layers that keep
// channels apart (batch norm, pooling, flatten) pass them on; a residual layer couples those of its
// branches with each other.
// Threading:   pure functions. Determinism: equal specs give equal groups on every machine.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "espalier/v1/model.pb.h"

namespace espalier::wire {

// A part of one tensor that is divided among the channels of a group: channel c has the rows (or
// columns) [c · width, (c + 1) · width). The first axis of a tensor are rows, all others together
// columns: of a convolution that is input channel by input channel.
struct ChannelMember {
  // kRows make the channel, kColumns read it.
  enum class Axis { kRows, kColumns };
  size_t tensor = 0;  // in layout order
  Axis axis = Axis::kRows;
  int64_t width = 1;
  friend bool operator==(const ChannelMember&, const ChannelMember&) = default;
};

struct ChannelGroup {
  int64_t channels = 0;
  // Channels of the examples or outputs of the model, which are not the model's to remove.
  bool fixed = false;
  // In layout order; rows before columns of one tensor.
  std::vector<ChannelMember> members = {};
};

// In the order in which groups begin; the first one are the channels of the examples. Where all
// members of a channel that is not fixed are 0 (and where weights are standardised, are not
// stored), the outputs are those of the network without it.
// Errors: those of TensorsOf(); InvalidArgument (NO_CHANNELS) for a recommender or transformer.
absl::StatusOr<std::vector<ChannelGroup>> ChannelGroups(const v1::ModelSpec& spec);

}  // namespace espalier::wire
