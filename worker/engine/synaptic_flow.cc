#include "worker/engine/synaptic_flow.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <utility>

#include "common/base/status.h"
#include "fmt/format.h"
#include "worker/engine/layers/weight_standardization.h"
#include "worker/engine/multiversion.h"
#include "worker/engine/parallel.h"

namespace espalier::worker::engine {

// Where the outputs lie that one place in the window of a convolution has a part in, and its
// inputs.
struct Tap {
  int64_t row_begin = 0;  // of outputs
  int64_t row_end = 0;
  int64_t col_begin = 0;
  int64_t length = 0;  // outputs in a row
  int64_t input = 0;   // of the first output in the first row, within the channel
};

// The weights of one layer that are left, by ascending position.
struct SynapticFlow::Weight {
  ConvShape shape;  // a linear layer is a convolution of single positions
  std::vector<Tap> taps;
  bool sparsifiable = false;
  int64_t first = 0;  // of the tensor among the positions of sparsifiable ones
  std::vector<uint32_t> positions;
  std::vector<double> magnitudes;
  std::vector<double> scores;
};

struct SynapticFlow::Node {
  LayerKind kind = LayerKind::kFlatten;
  MapShape input;
  MapShape output;
  size_t weight = 0;            // kLinear, kConv
  std::vector<double> factors;  // kBatchNorm, by channel
  int64_t window_height = 1;    // pooling
  int64_t window_width = 1;
  int64_t stride = 1;
  std::vector<Node> body;  // kResidual
  std::vector<Node> shortcut;
  Activations activations;
  double factor = 1;  // what the output was multiplied by, a power of two
};

namespace {

std::vector<Tap> TapsOf(const ConvShape& s) {
  std::vector<Tap> taps;
  const auto up = [&](int64_t value) { return (value + s.stride - 1) / s.stride; };
  for (int64_t place = 0; place < s.kernel * s.kernel; ++place) {
    const int64_t down = place / s.kernel - s.padding;
    const int64_t right = place % s.kernel - s.padding;
    Tap tap = {.row_begin = up(std::max<int64_t>(0, -down)),
               .row_end = std::min(s.out_height(), up(s.in_height - down)),
               .col_begin = up(std::max<int64_t>(0, -right))};
    tap.length = std::min(s.out_width(), up(s.in_width - right)) - tap.col_begin;
    if (tap.length <= 0) tap.row_end = tap.row_begin;
    tap.input = (tap.row_begin * s.stride + down) * s.in_width + tap.col_begin * s.stride + right;
    taps.push_back(tap);
  }
  return taps;
}

// What one weight joins: `rows` rows of `length` outputs, `stride` inputs apart, beginning at `to`
// and `from`.
struct Plane {
  int64_t to = 0;
  int64_t from = 0;
  int64_t rows = 0;
  int64_t length = 0;
  int64_t stride = 1;
  int64_t to_row = 0;  // from one row to the next
  int64_t from_row = 0;
};

// Of the weight at `col` of output channel `row`.
Plane PlaneOf(const ConvShape& s, const std::vector<Tap>& taps, uint32_t row, uint32_t col) {
  const auto window = static_cast<uint32_t>(taps.size());
  const uint32_t channel = col / window;
  const Tap& tap = taps[col % window];
  return {.to = (row * s.out_height() + tap.row_begin) * s.out_width() + tap.col_begin,
          .from = channel * s.in_height * s.in_width + tap.input,
          .rows = tap.row_end - tap.row_begin,
          .length = tap.length,
          .stride = s.stride,
          .to_row = s.out_width(),
          .from_row = s.stride * s.in_width};
}

// y += w · x.
ESPALIER_MULTIVERSION
void AddForward(const Plane& plane, double w, const double* __restrict x, double* __restrict y) {
  x += plane.from;
  y += plane.to;
  for (int64_t row = 0; row < plane.rows; ++row, x += plane.from_row, y += plane.to_row) {
    if (plane.stride == 1) {
      for (int64_t i = 0; i < plane.length; ++i) y[i] += w * x[i];
    } else {
      for (int64_t i = 0; i < plane.length; ++i) y[i] += w * x[i * plane.stride];
    }
  }
}

// dx += w · dy; returns the sum of dy · x, added up in lanes whatever the processor.
ESPALIER_MULTIVERSION
double AddBackward(const Plane& plane, double w, const double* __restrict x,
                   const double* __restrict dy, double* __restrict dx) {
  constexpr int64_t kSums = 8;
  double sums[kSums] = {};
  x += plane.from;
  dx += plane.from;
  dy += plane.to;
  for (int64_t row = 0; row < plane.rows; ++row) {
    int64_t i = 0;
    if (plane.stride == 1) {
      for (; i + kSums <= plane.length; i += kSums) {
        for (int64_t lane = 0; lane < kSums; ++lane) {
          sums[lane] += dy[i + lane] * x[i + lane];
          dx[i + lane] += w * dy[i + lane];
        }
      }
    }
    for (; i < plane.length; ++i) {
      sums[i % kSums] += dy[i] * x[i * plane.stride];
      dx[i * plane.stride] += w * dy[i];
    }
    x += plane.from_row;
    dx += plane.from_row;
    dy += plane.to_row;
  }
  double sum = 0;
  for (const double lane : sums) sum += lane;
  return sum;
}

// The entries of ascending `positions` whose row is in `rows`.
RowRange EntriesOf(const std::vector<uint32_t>& positions, int64_t cols, RowRange rows) {
  const auto at = [&](int64_t row) {
    return std::ranges::lower_bound(positions, row * cols) - positions.begin();
  };
  return {at(rows.begin), at(rows.end)};
}

}  // namespace

// Makes the nodes of a chain and takes its tensors in layout order.
class SynapticFlow::Builder {
 public:
  Builder(SynapticFlow& flow, std::span<const float> values) : flow_(flow), values_(values) {}

  absl::StatusOr<MapShape> Add(const std::vector<LayerSpec>& specs, MapShape shape,
                               std::vector<Node>& nodes) {
    for (const LayerSpec& spec : specs) {
      Node node;
      node.kind = spec.kind;
      node.input = shape;
      ESPALIER_RETURN_IF_ERROR(Fill(spec, node));
      shape = node.output;
      nodes.push_back(std::move(node));
    }
    return shape;
  }

  absl::Status CheckAllTaken() const {
    const size_t tensors = flow_.topology_->num_tensors();
    if (next_ == tensors) return absl::OkStatus();
    return base::InvalidArgument(
        "SHAPE_MISMATCH", fmt::format("the network has {} tensors, the model {}", next_, tensors));
  }

 private:
  absl::Status Fill(const LayerSpec& spec, Node& node) {
    switch (spec.kind) {
      case LayerKind::kLinear:
      case LayerKind::kConv:
        return AddWeight(spec, node);
      case LayerKind::kBatchNorm:
        return AddBatchNorm(spec, node);
      case LayerKind::kFlatten:
        node.output = {.channels = node.input.features()};
        return absl::OkStatus();
      case LayerKind::kResidual: {
        ESPALIER_ASSIGN_OR_RETURN(node.output, Add(spec.body, node.input, node.body));
        return Add(spec.shortcut, node.input, node.shortcut).status();
      }
      default:
        AddPooling(spec, node);
        return absl::OkStatus();
    }
  }

  // The next tensor, which must be rows × cols.
  absl::StatusOr<size_t> Take(int64_t rows, int64_t cols) {
    const tensor::ModelLayout& layout = flow_.topology_->layout();
    if (next_ < layout.size() && layout[next_].rows == rows && layout[next_].cols == cols) {
      return next_++;
    }
    return base::InvalidArgument(
        "SHAPE_MISMATCH",
        fmt::format("tensor {} of the model must be {} × {} for this network", next_, rows, cols));
  }

  absl::Status AddWeight(const LayerSpec& spec, Node& node) {
    Weight weight;
    const bool conv = spec.kind == LayerKind::kConv;
    weight.shape = {.in_channels = conv ? node.input.channels : node.input.features(),
                    .in_height = conv ? node.input.height : 1,
                    .in_width = conv ? node.input.width : 1,
                    .out_channels = spec.units,
                    .kernel = conv ? spec.kernel : 1,
                    .stride = conv ? spec.stride : 1,
                    .padding = conv ? spec.padding : 0};
    ESPALIER_ASSIGN_OR_RETURN(const size_t tensor, Take(spec.units, weight.shape.cols()));
    const tensor::ModelTopology& topology = *flow_.topology_;
    const auto stored = values_.subspan(topology.offset(tensor), topology.stored(tensor));
    if (topology.layout()[tensor].size() > std::numeric_limits<uint32_t>::max()) {
      return base::InvalidArgument(
          "MODEL_TOO_LARGE", fmt::format("expected at most 2^32 − 1 positions in a tensor, found "
                                         "{}; use smaller layers",
                                         topology.layout()[tensor].size()));
    }
    weight.taps = TapsOf(weight.shape);
    if (topology.is_sparse(tensor)) {
      const std::vector<int64_t> positions = topology.topology(tensor).Positions();
      weight.positions.assign(positions.begin(), positions.end());
    } else {
      weight.positions.resize(stored.size());
      std::iota(weight.positions.begin(), weight.positions.end(), 0U);
    }
    weight.magnitudes.reserve(stored.size());
    for (const float value : stored) weight.magnitudes.push_back(std::abs(value));
    if (spec.standardize) {
      ESPALIER_ASSIGN_OR_RETURN(const size_t scale, Take(spec.units, 1));
      Standardize(stored, values_.subspan(topology.offset(scale)), weight);
    }
    weight.scores.resize(stored.size());
    weight.sparsifiable = topology.layout()[tensor].sparsifiable;
    weight.first = sparsifiable_;
    if (weight.sparsifiable) sparsifiable_ += topology.layout()[tensor].size();
    node.output = {spec.units, weight.shape.out_height(), weight.shape.out_width()};
    node.weight = flow_.weights_.size();
    flow_.weights_.push_back(std::move(weight));
    return spec.bias ? Take(spec.units, 1).status() : absl::OkStatus();
  }

  // As a batch norm in evaluation: channels keep the factors that they have at the beginning.
  static void Standardize(std::span<const float> stored, std::span<const float> scales,
                          Weight& weight) {
    const auto cols = static_cast<uint32_t>(weight.shape.cols());
    for (size_t k = 0; k < stored.size();) {
      const uint32_t channel = weight.positions[k] / cols;
      size_t end = k;
      while (end < stored.size() && weight.positions[end] / cols == channel) ++end;
      const double factor =
          std::abs(scales[channel]) * StandardOf(stored.subspan(k, end - k)).factor;
      for (; k < end; ++k) weight.magnitudes[k] *= factor;
    }
  }

  absl::Status AddBatchNorm(const LayerSpec& spec, Node& node) {
    const int64_t channels = node.input.channels;
    ESPALIER_ASSIGN_OR_RETURN(const size_t scale, Take(channels, 1));
    for (int i = 0; i < 3; ++i) ESPALIER_RETURN_IF_ERROR(Take(channels, 1).status());
    const tensor::ModelTopology& topology = *flow_.topology_;
    for (int64_t c = 0; c < channels; ++c) {
      const double variance = values_[topology.offset(scale + 3) + c];
      node.factors.push_back(std::abs(values_[topology.offset(scale) + c]) /
                             std::sqrt(variance + spec.epsilon));
    }
    node.output = node.input;
    return absl::OkStatus();
  }

  static void AddPooling(const LayerSpec& spec, Node& node) {
    const bool global = spec.kind == LayerKind::kGlobalAveragePool;
    node.window_height = global ? node.input.height : spec.kernel;
    node.window_width = global ? node.input.width : spec.kernel;
    node.stride = global ? 1 : spec.stride;
    node.output = {node.input.channels, (node.input.height - node.window_height) / node.stride + 1,
                   (node.input.width - node.window_width) / node.stride + 1};
  }

  SynapticFlow& flow_;
  std::span<const float> values_;
  size_t next_ = 0;
  int64_t sparsifiable_ = 0;
};

SynapticFlow::SynapticFlow(std::shared_ptr<const tensor::ModelTopology> topology, int threads)
    : topology_(std::move(topology)), threads_(threads) {}
SynapticFlow::SynapticFlow(SynapticFlow&&) noexcept = default;
SynapticFlow::~SynapticFlow() = default;

absl::StatusOr<SynapticFlow> SynapticFlow::Create(
    const NetworkSpec& spec, std::shared_ptr<const tensor::ModelTopology> topology,
    std::span<const float> values, int threads) {
  if (static_cast<int64_t>(values.size()) != topology->total_stored()) {
    return base::InvalidArgument(
        "SHAPE_MISMATCH",
        fmt::format("expected {} values, found {}", topology->total_stored(), values.size()));
  }
  SynapticFlow flow(std::move(topology), threads);
  flow.input_features_ = spec.input_features;
  const MapShape input =
      spec.input_image.channels > 0 ? spec.input_image : MapShape{.channels = spec.input_features};
  Builder builder(flow, values);
  ESPALIER_RETURN_IF_ERROR(builder.Add(spec.layers, input, flow.nodes_).status());
  ESPALIER_RETURN_IF_ERROR(builder.CheckAllTaken());
  return flow;
}

void SynapticFlow::Multiply(const Weight& weight, const Activations& input,
                            Activations& output) const {
  const ConvShape& shape = weight.shape;
  const auto cols = static_cast<uint32_t>(shape.cols());
  ParallelRows(threads_, shape.out_channels, [&](RowRange rows) {
    const RowRange entries = EntriesOf(weight.positions, cols, rows);
    for (int64_t k = entries.begin; k < entries.end; ++k) {
      const uint32_t position = weight.positions[k];
      AddForward(PlaneOf(shape, weight.taps, position / cols, position % cols),
                 weight.magnitudes[k], input.data(), output.data());
    }
  });
}

SynapticFlow::Activations SynapticFlow::ScoreWeights(Weight& weight, const Activations& input,
                                                     const Activations& delta) const {
  const ConvShape& shape = weight.shape;
  const auto cols = static_cast<uint32_t>(shape.cols());
  const auto window = static_cast<int64_t>(weight.taps.size());
  Activations result(shape.in_features());
  // Every thread has input channels of its own, and adds to them in the order of positions.
  ParallelRows(threads_, shape.in_channels, [&](RowRange channels) {
    const RowRange own = {channels.begin * window, channels.end * window};
    for (size_t k = 0; k < weight.positions.size(); ++k) {
      const uint32_t col = weight.positions[k] % cols;
      if (col < own.begin || col >= own.end) continue;
      const double w = weight.magnitudes[k];
      const Plane plane = PlaneOf(shape, weight.taps, weight.positions[k] / cols, col);
      weight.scores[k] = w * AddBackward(plane, w, input.data(), delta.data(), result.data());
    }
  });
  return result;
}

namespace {

// Calls body(output, input of the window's corner) for every output of a pooling layer.
template <typename Body>
void ForWindows(const MapShape& in, const MapShape& out, int64_t stride, const Body& body) {
  for (int64_t o = 0; o < out.features(); ++o) {
    const int64_t channel = o / out.positions();
    const int64_t row = o / out.width % out.height * stride;
    const int64_t col = o % out.width * stride;
    body(o, (channel * in.height + row) * in.width + col);
  }
}

// Where the largest input of a window lies; the first among equals.
int64_t Largest(const std::vector<double>& input, int64_t corner, int64_t height, int64_t width,
                int64_t input_width) {
  int64_t best = corner;
  for (int64_t i = 0; i < height; ++i) {
    for (int64_t j = 0; j < width; ++j) {
      const int64_t at = corner + i * input_width + j;
      if (input[at] > input[best]) best = at;
    }
  }
  return best;
}

}  // namespace

void SynapticFlow::Forward(Node& node, const Activations& input) {
  node.activations.assign(node.output.features(), 0);
  Activations& output = node.activations;
  switch (node.kind) {
    case LayerKind::kLinear:
    case LayerKind::kConv:
      Multiply(weights_[node.weight], input, output);
      break;
    case LayerKind::kBatchNorm:
      for (size_t i = 0; i < output.size(); ++i) {
        output[i] = input[i] * node.factors[i / node.output.positions()];
      }
      break;
    case LayerKind::kFlatten:
      output = input;
      break;
    case LayerKind::kResidual: {
      output = Forward(node.body, input, /*rescale=*/false);
      const Activations& direct = Forward(node.shortcut, input, /*rescale=*/false);
      for (size_t i = 0; i < output.size(); ++i) output[i] += direct[i];
      break;
    }
    default:
      ForWindows(node.input, node.output, node.stride, [&](int64_t o, int64_t corner) {
        if (node.kind == LayerKind::kMaxPool) {
          output[o] = input[Largest(input, corner, node.window_height, node.window_width,
                                    node.input.width)];
          return;
        }
        for (int64_t i = 0; i < node.window_height * node.window_width; ++i) {
          output[o] +=
              input[corner + i / node.window_width * node.input.width + i % node.window_width];
        }
        output[o] /= static_cast<double>(node.window_height * node.window_width);
      });
  }
}

const SynapticFlow::Activations& SynapticFlow::Forward(std::vector<Node>& chain,
                                                       const Activations& input, bool rescale) {
  const Activations* current = &input;
  for (Node& node : chain) {
    Forward(node, *current);
    const double largest = *std::ranges::max_element(node.activations);
    const bool scales = rescale && largest > 0 && std::isfinite(largest);
    node.factor = scales ? std::ldexp(1.0, std::clamp(-std::ilogb(largest), -1000, 1000)) : 1;
    for (double& value : node.activations) value *= node.factor;
    current = &node.activations;
  }
  return *current;
}

SynapticFlow::Activations SynapticFlow::Backward(std::vector<Node>& chain, const Activations& input,
                                                 Activations delta) {
  for (size_t i = chain.size(); i-- > 0;) {
    for (double& value : delta) value *= chain[i].factor;
    delta = Backward(chain[i], i > 0 ? chain[i - 1].activations : input, std::move(delta));
  }
  return delta;
}

SynapticFlow::Activations SynapticFlow::Backward(Node& node, const Activations& input,
                                                 Activations delta) {
  switch (node.kind) {
    case LayerKind::kLinear:
    case LayerKind::kConv:
      return ScoreWeights(weights_[node.weight], input, delta);
    case LayerKind::kBatchNorm:
      for (size_t i = 0; i < delta.size(); ++i) {
        delta[i] *= node.factors[i / node.output.positions()];
      }
      return delta;
    case LayerKind::kFlatten:
      return delta;
    case LayerKind::kResidual: {
      Activations result = Backward(node.body, input, delta);
      const Activations direct = Backward(node.shortcut, input, std::move(delta));
      for (size_t i = 0; i < result.size(); ++i) result[i] += direct[i];
      return result;
    }
    default: {
      Activations result(node.input.features());
      const auto share = 1.0 / static_cast<double>(node.window_height * node.window_width);
      ForWindows(node.input, node.output, node.stride, [&](int64_t o, int64_t corner) {
        if (node.kind == LayerKind::kMaxPool) {
          result[Largest(input, corner, node.window_height, node.window_width, node.input.width)] +=
              delta[o];
          return;
        }
        for (int64_t i = 0; i < node.window_height * node.window_width; ++i) {
          result[corner + i / node.window_width * node.input.width + i % node.window_width] +=
              share * delta[o];
        }
      });
      return result;
    }
  }
}

void SynapticFlow::Score() {
  const Activations ones(input_features_, 1.0);
  const size_t outputs = Forward(nodes_, ones, /*rescale=*/true).size();
  Backward(nodes_, ones, Activations(outputs, 1.0));
}

void SynapticFlow::Prune(int64_t count) {
  std::vector<double> scores;
  for (const Weight& weight : weights_) {
    if (weight.sparsifiable) {
      scores.insert(scores.end(), weight.scores.begin(), weight.scores.end());
    }
  }
  // Numbers that are none have no order; NormalizedScores() shows them.
  const bool finite =
      std::ranges::all_of(scores, [](double score) { return std::isfinite(score); });
  if (!finite || count >= static_cast<int64_t>(scores.size())) return;
  // Everything above the score of the first that goes stays, and of its equals the first ones.
  std::ranges::nth_element(scores, scores.begin() + count, std::greater{});
  const double bound = scores[count];
  int64_t equals = count - std::count_if(scores.begin(), scores.begin() + count,
                                         [&](double score) { return score > bound; });
  for (Weight& weight : weights_) {
    if (!weight.sparsifiable) continue;
    size_t kept = 0;
    for (size_t k = 0; k < weight.positions.size(); ++k) {
      const double score = weight.scores[k];
      if (score < bound || (score == bound && equals-- <= 0)) continue;
      weight.positions[kept] = weight.positions[k];
      weight.magnitudes[kept] = weight.magnitudes[k];
      weight.scores[kept] = score;
      ++kept;
    }
    weight.positions.resize(kept);
    weight.magnitudes.resize(kept);
    weight.scores.resize(kept);
  }
}

std::vector<double> SynapticFlow::Scores() const {
  std::vector<double> scores(topology_->sparsifiable_size());
  for (const Weight& weight : weights_) {
    for (size_t k = 0; weight.sparsifiable && k < weight.positions.size(); ++k) {
      scores[weight.first + weight.positions[k]] = weight.scores[k];
    }
  }
  return scores;
}

std::vector<float> SynapticFlow::NormalizedScores() const {
  constexpr double kLeast = 0x1p-59;
  double largest = 0;
  for (const Weight& weight : weights_) {
    for (const double score : weight.scores) {
      if (weight.sparsifiable && !(score <= largest)) largest = score;
    }
  }
  std::vector<float> scores(topology_->sparsifiable_size());
  for (const Weight& weight : weights_) {
    for (size_t k = 0; weight.sparsifiable && k < weight.positions.size(); ++k) {
      const double share = largest > 0 ? weight.scores[k] / largest : 0;
      const double value = share < kLeast ? kLeast : share;
      scores[weight.first + weight.positions[k]] = static_cast<float>(value);
    }
  }
  return scores;
}

}  // namespace espalier::worker::engine
