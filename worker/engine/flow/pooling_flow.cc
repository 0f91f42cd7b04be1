#include "worker/engine/flow/pooling_flow.h"

namespace espalier::worker::engine {
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

class PoolingFlow final : public FlowNode {
 public:
  PoolingFlow(bool largest, const PoolWindow& window, const MapShape& input)
      : FlowNode(PooledShape(window, input)), largest_(largest), window_(window), input_(input) {}

  void Forward(const FlowValues& input, FlowValues& output) override {
    ForWindows(input_, shape(), window_.stride, [&](int64_t o, int64_t corner) {
      if (largest_) {
        output[o] = input[LargestOf(input, corner)];
        return;
      }
      for (int64_t i = 0; i < window_.height * window_.width; ++i) {
        output[o] += input[corner + i / window_.width * input_.width + i % window_.width];
      }
      output[o] /= static_cast<double>(window_.height * window_.width);
    });
  }

  FlowValues Backward(const FlowValues& input, FlowValues delta) override {
    FlowValues result(input_.features());
    const auto share = 1.0 / static_cast<double>(window_.height * window_.width);
    ForWindows(input_, shape(), window_.stride, [&](int64_t o, int64_t corner) {
      if (largest_) {
        result[LargestOf(input, corner)] += delta[o];
        return;
      }
      for (int64_t i = 0; i < window_.height * window_.width; ++i) {
        result[corner + i / window_.width * input_.width + i % window_.width] += share * delta[o];
      }
    });
    return result;
  }

 private:
  int64_t LargestOf(const FlowValues& input, int64_t corner) const {
    return Largest(input, corner, window_.height, window_.width, input_.width);
  }

  bool largest_;
  PoolWindow window_;
  MapShape input_;
};

}  // namespace

std::unique_ptr<FlowNode> MakePoolingFlow(bool largest, const PoolWindow& window,
                                          const MapShape& input) {
  return std::make_unique<PoolingFlow>(largest, window, input);
}

}  // namespace espalier::worker::engine
