// Shapes of what flows through a network. How a layer changes them, its descriptor knows
// (layer_descriptor.h).
//
// Units:       an image of channels × height × width has that many features, stored channel by
//              channel and row by row. Plain features have height = width = 1.
// Threading:   pure functions.
// Errors:      InvalidArgument with reason LAYER_SHAPE, or UNKNOWN_LAYER for a layer without a
//              kind; the message names neither layer nor path, which the caller knows.
#pragma once

#include <cstdint>
#include <limits>
#include <string>

#include "absl/status/statusor.h"
#include "espalier/v1/model.pb.h"

namespace espalier::wire {

// Of one example, and of what any layer makes of it.
inline constexpr int64_t kMaxFeatures = std::numeric_limits<int32_t>::max() - 1;

struct FeatureShape {
  int64_t channels = 0;
  int64_t height = 1;
  int64_t width = 1;
  bool image = false;  // whether convolutions and pooling may follow

  int64_t positions() const { return height * width; }
  int64_t features() const { return channels * height * width; }
  friend bool operator==(const FeatureShape&, const FeatureShape&) = default;
};

// "3 × 32 × 32", or "10 features".
std::string ToText(const FeatureShape& shape);

absl::Status ShapeError(const std::string& message);

// Shape of one example.
FeatureShape InputShape(const v1::ModelSpec& spec);

// OK when an example has a number of features that a network can take.
absl::Status CheckInput(const FeatureShape& input);

// What `layer` makes of an input of that shape.
absl::StatusOr<FeatureShape> OutputShape(const v1::Layer& layer, const FeatureShape& input);

// Values that the layers give out for one example: all together, and the most of one layer. For
// layers that fit each other; what follows one that does not is left out.
struct Outputs {
  double total = 0;
  double widest = 0;
};
Outputs OutputsOf(const v1::ModelSpec& spec);

// Whether some batch norm sees one value per channel of an example, as after a linear layer: of a
// single example it would leave nothing.
bool NormalizesSingleValues(const v1::ModelSpec& model);

}  // namespace espalier::wire
