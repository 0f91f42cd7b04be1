// Gradients of inactive weights: the largest of them, streamed tile by tile
// (Network::GrowthCandidates()), and all of them (Network::TrainAndSum()).
#include <algorithm>
#include <cmath>
#include <map>
#include <utility>
#include <vector>

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

// What one query wants of a stream of inactive positions. Rows of a tile come in any order.
class Selection {
 public:
  explicit Selection(const GrowthQuery& query, int64_t inactive)
      : query_(query), top_(std::min(query.count, inactive)) {}

  // The inactive positions of one row of a tile, columns [first, first + gradient.size()).
  void OfferRow(std::span<const int32_t> active, int64_t row_position, int64_t first,
                std::span<const float> gradient) {
    auto next = std::ranges::lower_bound(active, first);
    auto wanted = std::ranges::lower_bound(query_.positions, row_position + first);
    for (int64_t i = 0; i < static_cast<int64_t>(gradient.size()); ++i) {
      if (next != active.end() && *next == first + i) {
        ++next;
        continue;
      }
      const int64_t position = row_position + first + i;
      top_.Offer(position, gradient[i]);
      while (wanted != query_.positions.end() && *wanted < position) ++wanted;
      const bool asked = wanted != query_.positions.end() && *wanted == position;
      if (asked || std::abs(static_cast<double>(gradient[i])) >= query_.threshold) {
        others_.emplace_back(position, gradient[i]);
      }
    }
  }

  ScoreList Take() {
    ScoreList list = top_.TakeSorted();
    if (others_.empty()) return list;
    for (size_t i = 0; i < list.positions.size(); ++i) {
      others_.emplace_back(list.positions[i], list.values[i]);
    }
    std::ranges::sort(others_, {}, [](const auto& entry) { return entry.first; });
    list = {};
    for (const auto& [position, value] : others_) {
      if (!list.positions.empty() && list.positions.back() == position) continue;
      list.positions.push_back(position);
      list.values.push_back(value);
    }
    return list;
  }

 private:
  const GrowthQuery& query_;
  sparsity::TopK top_;
  std::vector<std::pair<int64_t, float>> others_;  // by threshold or position
};

bool IsEmpty(const GrowthQuery& query) {
  return query.count == 0 && query.positions.empty() && std::isinf(query.threshold);
}

}  // namespace

ScoreList Network::SelectInactive(const ProductLayer& layer, const GrowthQuery& query,
                                  const GrowthBuffers& buffers) {
  const tensor::Topology& topology = topology_->topology(layer.weight_tensor());
  Selection selection(query, topology.size() - topology.nnz());
  layer.FullGradient(
      values_.data(), buffers.delta.data(), buffers.input.data(), buffers.width, buffers.width,
      [&](const GradientTile& tile) {
        for (int64_t r = tile.row; r < tile.row + tile.rows; ++r) {
          const auto begin = topology.row_offsets()[r];
          selection.OfferRow(
              topology.columns().subspan(begin, topology.row_offsets()[r + 1] - begin),
              r * topology.cols(), tile.col,
              tile.values.subspan((r - tile.row) * tile.cols, tile.cols));
        }
      });
  return selection.Take();
}

std::vector<ScoreList> Network::GrowthCandidates(std::span<const Batch> batches,
                                                 std::span<const int64_t> counts_per_tensor,
                                                 std::span<float> active) {
  std::vector<GrowthQuery> queries;
  for (const int64_t count : counts_per_tensor) queries.push_back({.count = count});
  return InactiveGradients(batches, queries, active);
}

std::vector<ScoreList> Network::InactiveGradients(std::span<const Batch> batches,
                                                  std::span<const GrowthQuery> queries,
                                                  std::span<float> active) {
  ESPALIER_CHECK(queries.size() == topology_->num_tensors(),
                 "one query is needed for every tensor");
  ESPALIER_CHECK(active.empty() || static_cast<int64_t>(active.size()) == values_.size(),
                 "gradients must be as long as the values");
  std::ranges::fill(active, 0.0F);
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
    return width == 0 || !topology_->is_sparse(tensor) || IsEmpty(queries[tensor]);
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
    const auto add = [&](int64_t offset, std::span<const float> gradient) {
      const auto to = active.begin() + offset;
      const auto weight = static_cast<float>(batch.size);
      for (size_t i = 0; i < gradient.size(); ++i) to[i] += weight * gradient[i];
    };
    BackwardTarget target{.capture = capture};
    if (!active.empty()) target.gradients = add;
    Learn(pass, batch, target);
    first += pass.extent.width;
  }
  for (float& gradient : active) gradient /= static_cast<float>(examples);
  std::vector<ScoreList> result(topology_->num_tensors());
  for (const ProductLayer* layer : layers) {
    const size_t tensor = layer->weight_tensor();
    result[tensor] = SelectInactive(*layer, queries[tensor], buffers.at(layer));
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
    layer.FullGradient(values_.data(), delta, input, stride_, ExtentOf(batch).width,
                       [&](const GradientTile& tile) {
                         for (int64_t r = 0; r < tile.rows; ++r) {
                           const auto row =
                               sums.subspan(dense_from[tensor] + (tile.row + r) * cols + tile.col);
                           for (int64_t c = 0; c < tile.cols; ++c)
                             row[c] += tile.values[r * tile.cols + c];
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
