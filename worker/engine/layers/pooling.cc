#include "worker/engine/layers/pooling.h"

#include <algorithm>
#include <vector>

#include "common/base/status.h"
#include "fmt/format.h"
#include "worker/engine/multiversion.h"
#include "worker/engine/parallel.h"

namespace espalier::worker::engine {
namespace {

ESPALIER_MULTIVERSION
void RaiseTo(const float* x, int64_t width, float* y) {
  // Written so that a NaN in x wins.
  for (int64_t b = 0; b < width; ++b) y[b] = x[b] <= y[b] ? y[b] : x[b];
}

ESPALIER_MULTIVERSION
void AddScaled(const float* x, float factor, int64_t width, float* y) {
  for (int64_t b = 0; b < width; ++b) y[b] += factor * x[b];
}

// Gives `rest` to dX where x is the output's value, once in each column.
ESPALIER_MULTIVERSION
void TakeWhereEqual(const float* x, const float* y, int64_t width, float* rest, float* dx) {
  for (int64_t b = 0; b < width; ++b) {
    const bool hit = x[b] == y[b];
    dx[b] += hit ? rest[b] : 0.0F;
    rest[b] = hit ? 0.0F : rest[b];
  }
}

class Pooling final : public Layer {
 public:
  Pooling(bool largest, const PoolWindow& window, const MapShape& input, BuildContext& context)
      : Layer(PooledShape(window, input), context),
        largest_(largest),
        window_(window),
        input_(input) {}

  void Forward(const Pass& pass, const float* input) override {
    const int64_t width = pass.extent.width;
    const float share = 1.0F / static_cast<float>(window_.height * window_.width);
    float* output = mutable_output();
    ForEachOutput([&](int64_t to, int64_t from) {
      float* y = output + to * stride();
      if (largest_) {
        std::copy_n(input + from * stride(), width, y);
        ForEachInput(from, [&](int64_t row) { RaiseTo(input + row * stride(), width, y); });
      } else {
        std::fill_n(y, width, 0.0F);
        ForEachInput(from,
                     [&](int64_t row) { AddScaled(input + row * stride(), share, width, y); });
      }
    });
  }

  void Backward(const Pass& pass, const float* input, float* delta, float* input_delta,
                const BackwardTarget&) override {
    if (input_delta == nullptr) return;
    const int64_t width = pass.extent.width;
    const float share = 1.0F / static_cast<float>(window_.height * window_.width);
    ParallelRows(threads(), input_.features(), [&](RowRange rows) {
      for (int64_t row = rows.begin; row < rows.end; ++row) {
        std::fill_n(input_delta + row * stride(), width, 0.0F);
      }
    });
    ForEachOutput([&](int64_t to, int64_t from) {
      float* d = delta + to * stride();
      ForEachInput(from, [&](int64_t row) {
        float* dx = input_delta + row * stride();
        if (largest_) {
          TakeWhereEqual(input + row * stride(), output() + to * stride(), width, d, dx);
        } else {
          AddScaled(d, share, width, dx);
        }
      });
    });
  }

  OutputUse input_use() const override { return largest_ ? OutputUse::kExact : OutputUse::kNone; }

 private:
  OutputUse own_use() const override { return largest_ ? OutputUse::kExact : OutputUse::kNone; }

  // Calls body(output row, input row of the window's corner); a channel stays on one thread.
  template <typename Body>
  void ForEachOutput(const Body& body) const {
    ParallelRows(threads(), shape().channels, [&](RowRange channels) {
      for (int64_t to = channels.begin * shape().positions();
           to < channels.end * shape().positions(); ++to) {
        const int64_t channel = to / shape().positions();
        const int64_t row = to / shape().width % shape().height * window_.stride;
        const int64_t col = to % shape().width * window_.stride;
        body(to, (channel * input_.height + row) * input_.width + col);
      }
    });
  }

  template <typename Body>
  void ForEachInput(int64_t corner, const Body& body) const {
    for (int64_t i = 0; i < window_.height; ++i) {
      for (int64_t j = 0; j < window_.width; ++j) body(corner + i * input_.width + j);
    }
  }

  bool largest_;
  PoolWindow window_;
  MapShape input_;
};

}  // namespace

MapShape PooledShape(const PoolWindow& window, const MapShape& input) {
  return {input.channels, (input.height - window.height) / window.stride + 1,
          (input.width - window.width) / window.stride + 1};
}

absl::StatusOr<std::unique_ptr<Layer>> MakePooling(bool largest, const PoolWindow& window,
                                                   const MapShape& input, BuildContext& context) {
  if (window.height < 1 || window.stride < 1 || window.height > input.height ||
      window.width > input.width) {
    return SpecError(fmt::format("a window of {} × {} with stride {} does not fit {} × {}",
                                 window.height, window.width, window.stride, input.height,
                                 input.width));
  }
  return std::make_unique<Pooling>(largest, window, input, context);
}

}  // namespace espalier::worker::engine
