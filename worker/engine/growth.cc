// Gradients of inactive weights: the largest of them, streamed tile by tile
// (Network::GrowthCandidates()), and all of them (Network::TrainAndSum()).
#include <algorithm>
#include <map>

#include "common/base/check.h"
#include "common/sparsity/top_k.h"
#include "worker/engine/layers/product_layer.h"
#include "worker/engine/network.h"

namespace espalier::worker::engine {

// delta and input of a layer: [units][width] and [inputs][width], the batches one after the other,
// where delta is scaled so that delta · inputᵀ is the gradient of the mean loss over all of them.
struct Network::GrowthBuffers {
  int64_t width = 0;
  AlignedBuffer delta;
  AlignedBuffer input;
};

namespace {

// Copies `rows` rows of `width` floats, multiplied by `scale`.
void CopyScaled(const float* source, int64_t source_stride, int64_t rows, int64_t width,
                float scale, float* target, int64_t target_stride) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t b = 0; b < width; ++b) {
      target[row * target_stride + b] = scale * source[row * source_stride + b];
    }
  }
}

// Offers the inactive positions of one row of a tile, columns [first, first + gradient.size()).
void OfferInactive(std::span<const int32_t> active, int64_t row_position, int64_t first,
                   std::span<const float> gradient, sparsity::TopK& top) {
  auto next = std::ranges::lower_bound(active, first);
  for (int64_t i = 0; i < static_cast<int64_t>(gradient.size()); ++i) {
    if (next != active.end() && *next == first + i) {
      ++next;
    } else {
      top.Offer(row_position + first + i, gradient[i]);
    }
  }
}

}  // namespace

ScoreList Network::TopInactive(const ProductLayer& layer, int64_t count,
                               const GrowthBuffers& buffers) {
  const tensor::Topology& topology = topology_->topology(layer.weight_tensor());
  sparsity::TopK top(std::min(count, topology.size() - topology.nnz()));
  layer.FullGradient(
      buffers.delta.data(), buffers.input.data(), buffers.width, buffers.width,
      [&](const GradientTile& tile) {
        for (int64_t r = tile.row; r < tile.row + tile.rows; ++r) {
          const auto begin = topology.row_offsets()[r];
          OfferInactive(topology.columns().subspan(begin, topology.row_offsets()[r + 1] - begin),
                        r * topology.cols(), tile.col,
                        tile.values.subspan((r - tile.row) * tile.cols, tile.cols), top);
        }
      });
  return top.TakeSorted();
}

std::vector<ScoreList> Network::GrowthCandidates(std::span<const Batch> batches,
                                                 std::span<const int64_t> counts_per_tensor) {
  ESPALIER_CHECK(counts_per_tensor.size() == topology_->num_tensors(),
                 "one count is needed for every tensor");
  int64_t width = 0;
  int64_t examples = 0;
  for (const Batch& batch : batches) {
    width += ExtentOf(batch).width;
    examples += batch.size;
  }
  std::vector<const ProductLayer*> layers;
  layers_->CollectProducts(layers);
  std::erase_if(layers, [&](const ProductLayer* layer) {
    const size_t tensor = layer->weight_tensor();
    return width == 0 || !topology_->is_sparse(tensor) || counts_per_tensor[tensor] == 0;
  });
  std::map<const ProductLayer*, GrowthBuffers> buffers;
  for (const ProductLayer* layer : layers) {
    buffers.try_emplace(layer,
                        GrowthBuffers{width, AlignedBuffer(layer->shape().features() * width),
                                      AlignedBuffer(layer->input_features() * width)});
  }
  int64_t first = 0;
  for (const Batch& batch : batches) {
    const Pass pass = PassOver(batch, Mode::kGradient);
    const float share = static_cast<float>(batch.size) / static_cast<float>(examples);
    const auto capture = [&](const ProductLayer& layer, const float* delta, const float* input) {
      const auto target = buffers.find(&layer);
      if (target == buffers.end()) return;
      CopyScaled(delta, stride_, layer.shape().features(), pass.extent.width, share,
                 target->second.delta.data() + first, width);
      CopyScaled(input, stride_, layer.input_features(), pass.extent.width, 1.0F,
                 target->second.input.data() + first, width);
    };
    Learn(pass, batch, {.capture = capture});
    first += pass.extent.width;
  }
  std::vector<ScoreList> result(topology_->num_tensors());
  for (const ProductLayer* layer : layers) {
    const size_t tensor = layer->weight_tensor();
    result[tensor] = TopInactive(*layer, counts_per_tensor[tensor], buffers.at(layer));
  }
  return result;
}

BatchResult Network::TrainAndSum(const Batch& batch, double learning_rate, uint64_t dropout_key,
                                 std::span<float> sums) {
  ESPALIER_CHECK(static_cast<int64_t>(sums.size()) == topology_->total_size(),
                 "one sum is needed for every position");
  std::vector<int64_t> stored_from;  // of each tensor among the stored values
  std::vector<int64_t> dense_from;   // and among all positions
  int64_t positions = 0;
  for (size_t i = 0; i < topology_->num_tensors(); ++i) {
    stored_from.push_back(topology_->offset(i));
    dense_from.push_back(positions);
    positions += topology_->layout()[i].size();
  }
  const auto capture = [&](const ProductLayer& layer, const float* delta, const float* input) {
    const size_t tensor = layer.weight_tensor();
    if (!topology_->is_sparse(tensor)) return;
    const int64_t cols = topology_->layout()[tensor].cols;
    layer.FullGradient(delta, input, stride_, ExtentOf(batch).width, [&](const GradientTile& tile) {
      for (int64_t r = 0; r < tile.rows; ++r) {
        const auto row = sums.subspan(dense_from[tensor] + (tile.row + r) * cols + tile.col);
        for (int64_t c = 0; c < tile.cols; ++c) row[c] += tile.values[r * tile.cols + c];
      }
    });
  };
  const auto update = [&](int64_t offset, std::span<const float> gradient) {
    // Of tensors that store nothing there is no gradient: the last that begins here is meant.
    const auto after = std::ranges::upper_bound(stored_from, offset);
    const auto tensor = static_cast<size_t>(after - stored_from.begin()) - 1;
    if (!gradient.empty() && !topology_->is_sparse(tensor)) {
      const auto own = sums.subspan(dense_from[tensor] + offset - stored_from[tensor]);
      for (size_t i = 0; i < gradient.size(); ++i) own[i] += gradient[i];
    }
    UpdateTensor(offset, gradient);
  };
  optimizer_.BeginStep(learning_rate);
  return Learn(PassOver(batch, Mode::kTrain, dropout_key), batch,
               {.gradients = update, .capture = capture});
}

}  // namespace espalier::worker::engine
