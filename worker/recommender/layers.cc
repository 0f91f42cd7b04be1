#include "worker/recommender/layers.h"

#include <algorithm>
#include <utility>

#include "worker/engine/layers/product_layer.h"
#include "worker/engine/onednn/onednn_backend.h"
#include "worker/recommender/sinks.h"

namespace espalier::worker::recommender {

Layers::Layers(const tensor::ModelTopology& topology, size_t first_tensor, int64_t max_columns,
               int threads)
    : backend_(engine::MakeOneDnnBackend(threads)),
      context_{.topology = topology,
               .backend = *backend_,
               .workspace = workspace_,
               .max_batch = max_columns,
               .stride = engine::PaddedStride(max_columns),
               .threads = threads,
               .dropout_scaling = engine::DropoutScaling::kTraining,
               .next_tensor = first_tensor} {}

void Layers::Add(const std::vector<engine::LayerSpec>& specs, int64_t inputs) {
  auto chain = engine::Chain::Create(specs, {.channels = inputs}, true, context_);
  if (!chain.ok()) {
    status_.Update(chain.status());
    return;
  }
  chain->back().PlanOutput(engine::OutputUse::kExact);
  chains_.push_back(*std::move(chain));
  workspace_.NeedDelta(inputs * stride());
  workspace_.Allocate();
}

engine::Pass Layers::PassOf(std::span<const RowTensor> tensors, engine::Extent extent,
                            const uint64_t* dropout_key) {
  return {.mode = dropout_key != nullptr ? engine::Mode::kTrain : engine::Mode::kEvaluate,
          .extent = extent,
          .dropout_key = dropout_key != nullptr ? *dropout_key : 0,
          .values = tensors.front().values()};
}

const float* Layers::Forward(size_t chain, const engine::Pass& pass, const float* x) {
  chains_[chain].Forward(pass, x);
  return chains_[chain].back().output();
}

engine::BackwardTarget LayerGradients::Target(engine::Extent extent) {
  return {.gradients = [this](int64_t offset,
                              std::span<const float> gradient) { Stored(offset, gradient); },
          .capture = [this, width = extent.width](
                         const engine::ProductLayer& layer, const float* delta,
                         const float* input) { All(layer, delta, input, width); }};
}

void LayerGradients::Stored(int64_t offset, std::span<const float> gradient) {
  size_t index = 0;
  while (index + 1 < tensors_.size() && topology_.offset(index + 1) <= offset) ++index;
  const RowTensor& tensor = tensors_[index];
  const int64_t begin = offset - topology_.offset(index);
  if (begin == 0) next_row_ = 0;
  const int64_t end = begin + static_cast<int64_t>(gradient.size());
  // What came before is copied only where it ended within a group.
  if (!pending_.empty()) {
    pending_.insert(pending_.end(), gradient.begin(), gradient.end());
    gradient = pending_;
  }
  int64_t row = next_row_;
  while (row < tensor.rows()) {
    const int64_t next = std::min(row + kRowsPerGroup, tensor.rows());
    if (tensor.begin(next) > end) break;
    row = next;
  }
  EmitRows(sink_, index, tensor, {next_row_, row}, gradient.data(), threads_);
  const std::span<const float> rest = gradient.subspan(tensor.begin(row) - tensor.begin(next_row_));
  pending_ = std::vector<float>(rest.begin(), rest.end());
  next_row_ = row;
}

void LayerGradients::All(const engine::ProductLayer& layer, const float* delta, const float* input,
                         int64_t width) {
  const size_t index = layer.weight_tensor();
  if (!sink_.wants_all(index)) return;
  const int64_t cols = layer.input_features();
  layer.FullGradient(tensors_.front().values(), delta, input, stride_, width,
                     [&](const engine::GradientTile& tile) {
                       band_.resize(tile.rows * cols);
                       for (int64_t r = 0; r < tile.rows; ++r) {
                         std::copy_n(tile.values.data() + r * tile.cols, tile.cols,
                                     band_.data() + r * cols + tile.col);
                       }
                       if (tile.col + tile.cols < cols) return;
                       for (int64_t r = 0; r < tile.rows; ++r) {
                         sink_.AllOf(index, tile.row + r, band_.data() + r * cols);
                       }
                     });
}

}  // namespace espalier::worker::recommender
