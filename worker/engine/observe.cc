// Network::ObserveInput(): the columns that a layer's weights are multiplied with.
#include <vector>

#include "common/base/check.h"
#include "worker/engine/layers/product_layer.h"
#include "worker/engine/network.h"

namespace espalier::worker::engine {
namespace {

// Unfolds one example: row (channel, kernel row, kernel column), column output position. `input`
// has the example's values `stride` apart.
std::vector<float> Unfold(const ConvShape& shape, const float* input, int64_t stride) {
  const int64_t positions = shape.out_height() * shape.out_width();
  std::vector<float> columns(shape.cols() * positions);
  float* out = columns.data();
  for (int64_t channel = 0; channel < shape.in_channels; ++channel) {
    for (int64_t kh = 0; kh < shape.kernel; ++kh) {
      for (int64_t kw = 0; kw < shape.kernel; ++kw) {
        for (int64_t y = 0; y < shape.out_height(); ++y) {
          for (int64_t x = 0; x < shape.out_width(); ++x) {
            const int64_t row = y * shape.stride + kh - shape.padding;
            const int64_t column = x * shape.stride + kw - shape.padding;
            const bool inside =
                row >= 0 && row < shape.in_height && column >= 0 && column < shape.in_width;
            const int64_t feature = (channel * shape.in_height + row) * shape.in_width + column;
            *out++ = inside ? input[feature * stride] : 0.0F;
          }
        }
      }
    }
  }
  return columns;
}

}  // namespace

void Network::ObserveInput(const Batch& example, size_t tensor, const InputSink& sink) {
  ESPALIER_CHECK(example.size == 1, "inputs are observed one example at a time");
  Pass pass = PassOver(example, Mode::kEvaluate);
  const InputObserver observer = [&](const ProductLayer& layer, const float* input) {
    if (layer.weight_tensor() != tensor) return;
    const ConvShape& shape = layer.geometry();
    const std::vector<float> columns = Unfold(shape, input, stride_);
    sink(columns.data(), shape.cols(), shape.out_height() * shape.out_width());
  };
  pass.observer = &observer;
  layers_->Forward(pass, InputOf(pass, example));
}

}  // namespace espalier::worker::engine
