#include "worker/engine/flow/product_flow.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "common/base/status.h"
#include "fmt/format.h"
#include "worker/engine/layers/transforms/weight_standardization.h"
#include "worker/engine/multiversion.h"
#include "worker/engine/parallel.h"

namespace espalier::worker::engine {
namespace {

// Where the outputs lie that one place in the window of a convolution has a part in, and its
// inputs.
struct Tap {
  int64_t row_begin = 0;  // of outputs
  int64_t row_end = 0;
  int64_t col_begin = 0;
  int64_t length = 0;  // outputs in a row
  int64_t input = 0;   // of the first output in the first row, within the channel
};

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

class ProductFlow final : public FlowNode {
 public:
  ProductFlow(const ConvShape& shape, FlowWeight weight, int threads)
      : FlowNode({shape.out_channels, shape.out_height(), shape.out_width()}),
        geometry_(shape),
        taps_(TapsOf(shape)),
        weight_(std::move(weight)),
        threads_(threads) {}

  FlowWeight& weight() { return weight_; }

  void Forward(const FlowValues& input, FlowValues& output) override {
    const auto cols = static_cast<uint32_t>(geometry_.cols());
    ParallelRows(threads_, geometry_.out_channels, [&](RowRange rows) {
      const RowRange entries = EntriesOf(weight_.positions, cols, rows);
      for (int64_t k = entries.begin; k < entries.end; ++k) {
        const uint32_t position = weight_.positions[k];
        AddForward(PlaneOf(geometry_, taps_, position / cols, position % cols),
                   weight_.magnitudes[k], input.data(), output.data());
      }
    });
  }

  FlowValues Backward(const FlowValues& input, FlowValues delta) override {
    const auto cols = static_cast<uint32_t>(geometry_.cols());
    const auto window = static_cast<int64_t>(taps_.size());
    FlowValues result(geometry_.in_features());
    // Every thread has input channels of its own, and adds to them in the order of positions.
    ParallelRows(threads_, geometry_.in_channels, [&](RowRange channels) {
      const RowRange own = {channels.begin * window, channels.end * window};
      for (size_t k = 0; k < weight_.positions.size(); ++k) {
        const uint32_t col = weight_.positions[k] % cols;
        if (col < own.begin || col >= own.end) continue;
        const double w = weight_.magnitudes[k];
        const Plane plane = PlaneOf(geometry_, taps_, weight_.positions[k] / cols, col);
        weight_.scores[k] = w * AddBackward(plane, w, input.data(), delta.data(), result.data());
      }
    });
    return result;
  }

 private:
  ConvShape geometry_;
  std::vector<Tap> taps_;
  FlowWeight weight_;
  int threads_;
};

// As a batch norm in evaluation: channels keep the factors that they have at the beginning.
void Standardize(std::span<const float> stored, std::span<const float> scales, uint32_t cols,
                 FlowWeight& weight) {
  for (size_t k = 0; k < stored.size();) {
    const uint32_t channel = weight.positions[k] / cols;
    size_t end = k;
    while (end < stored.size() && weight.positions[end] / cols == channel) ++end;
    const double factor = std::abs(scales[channel]) * StandardOf(stored.subspan(k, end - k)).factor;
    for (; k < end; ++k) weight.magnitudes[k] *= factor;
  }
}

// The weights of `tensor`, all of them left.
FlowWeight WeightOf(size_t tensor, const FlowContext& context) {
  const tensor::ModelTopology& topology = context.topology;
  const std::span<const float> stored = context.ValuesOf(tensor);
  FlowWeight weight;
  if (topology.is_sparse(tensor)) {
    const std::vector<int64_t> positions = topology.topology(tensor).Positions();
    weight.positions.assign(positions.begin(), positions.end());
  } else {
    weight.positions.resize(stored.size());
    std::iota(weight.positions.begin(), weight.positions.end(), 0U);
  }
  weight.magnitudes.reserve(stored.size());
  for (const float value : stored) weight.magnitudes.push_back(std::abs(value));
  weight.scores.resize(stored.size());
  weight.sparsifiable = topology.layout()[tensor].sparsifiable;
  return weight;
}

}  // namespace

absl::StatusOr<std::unique_ptr<FlowNode>> MakeProductFlow(const LayerSpec& spec,
                                                          const ConvShape& shape,
                                                          FlowContext& context) {
  ESPALIER_ASSIGN_OR_RETURN(const size_t tensor, context.Take(spec.units, shape.cols()));
  const int64_t size = context.topology.layout()[tensor].size();
  if (size > std::numeric_limits<uint32_t>::max()) {
    return base::InvalidArgument(
        "MODEL_TOO_LARGE",
        fmt::format("expected at most 2^32 − 1 positions in a tensor, found {}; use smaller layers",
                    size));
  }
  FlowWeight weight = WeightOf(tensor, context);
  if (spec.standardize) {
    ESPALIER_ASSIGN_OR_RETURN(const size_t scale, context.Take(spec.units, 1));
    Standardize(context.ValuesOf(tensor), context.ValuesOf(scale),
                static_cast<uint32_t>(shape.cols()), weight);
  }
  if (spec.bias) ESPALIER_RETURN_IF_ERROR(context.Take(spec.units, 1).status());
  weight.first = context.sparsifiable;
  if (weight.sparsifiable) context.sparsifiable += size;
  auto node = std::make_unique<ProductFlow>(shape, std::move(weight), context.threads);
  context.weights.push_back(&node->weight());
  return node;
}

}  // namespace espalier::worker::engine
