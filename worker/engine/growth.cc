// Network::GrowthCandidates(): the largest gradients of inactive weights, streamed tile by tile.
#include <algorithm>
#include <numeric>

#include "common/base/check.h"
#include "common/sparsity/top_k.h"
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

// A tile of the dense gradient, rows × cols of a layer's weight.
constexpr int64_t kTileRows = 64;
constexpr int64_t kTileCols = 4096;

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

ScoreList Network::TopInactive(const Layer& layer, int64_t count, const GrowthBuffers& buffers) {
  const tensor::Topology& topology = topology_->topology(layer.weight_tensor);
  const int64_t cols = topology.cols();
  sparsity::TopK top(std::min(count, topology.size() - topology.nnz()));
  AlignedBuffer tile(kTileRows * std::min(kTileCols, cols));
  for (int64_t row = 0; row < topology.rows(); row += kTileRows) {
    for (int64_t col = 0; col < cols; col += kTileCols) {
      const int64_t tile_rows = std::min(kTileRows, topology.rows() - row);
      const int64_t tile_cols = std::min(kTileCols, cols - col);
      backend_->Gemm({.transpose_b = true,
                      .m = tile_rows,
                      .n = tile_cols,
                      .k = buffers.width,
                      .lda = buffers.width,
                      .ldb = buffers.width,
                      .ldc = tile_cols},
                     buffers.delta.data() + row * buffers.width,
                     buffers.input.data() + col * buffers.width, tile.data());
      for (int64_t r = row; r < row + tile_rows; ++r) {
        const auto begin = topology.row_offsets()[r];
        OfferInactive(topology.columns().subspan(begin, topology.row_offsets()[r + 1] - begin),
                      r * cols, col, tile.span().subspan((r - row) * tile_cols, tile_cols), top);
      }
    }
  }
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
  const auto wanted = [&](const Layer& layer) {
    return topology_->is_sparse(layer.weight_tensor) && counts_per_tensor[layer.weight_tensor] > 0;
  };
  std::vector<GrowthBuffers> buffers;
  for (const Layer& layer : layers_) {
    const int64_t used = wanted(layer) ? width : 0;
    buffers.push_back(
        {used, AlignedBuffer(layer.spec.units * used), AlignedBuffer(layer.inputs * used)});
  }
  int64_t first = 0;
  for (const Batch& batch : batches) {
    const Extent extent = ExtentOf(batch);
    const float share = static_cast<float>(batch.size) / static_cast<float>(examples);
    Forward(batch);
    Backward(batch, [&](size_t index, const float* delta, const float* input) {
      const Layer& layer = layers_[index];
      if (!wanted(layer)) return;
      GrowthBuffers& target = buffers[index];
      CopyScaled(delta, stride_, layer.spec.units, extent.width, share, target.delta.data() + first,
                 width);
      CopyScaled(input, stride_, layer.inputs, extent.width, 1.0F, target.input.data() + first,
                 width);
    });
    first += extent.width;
  }
  std::vector<ScoreList> result(topology_->num_tensors());
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (!wanted(layers_[i]) || width == 0) continue;
    const size_t tensor = layers_[i].weight_tensor;
    result[tensor] = TopInactive(layers_[i], counts_per_tensor[tensor], buffers[i]);
  }
  return result;
}

}  // namespace espalier::worker::engine
