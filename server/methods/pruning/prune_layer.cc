#include "server/methods/pruning/prune_layer.h"

#include <algorithm>
#include <cmath>
#include <thread>
#include <utility>

#include "common/base/status.h"
#include "common/sparsity/pruning/scores.h"
#include "common/sparsity/pruning/sparsegpt.h"

namespace espalier::server::methods {
namespace {

using sparsity::Mask;

constexpr unsigned kMaxThreads = 16;

// The initial mask and the factors of |W| in its score.
struct Initial {
  Mask mask;
  std::vector<float> factors;
};

class LayerPruner {
 public:
  LayerPruner(const sparsity::WeightsView& weights,
              const sparsity::ActivationStatistics& statistics, const PruningSettings& settings,
              int threads)
      : weights_(weights), statistics_(statistics), settings_(settings), threads_(threads) {
    if (NeedsGram(settings)) gram_ = statistics.Gram();
    moments_ = statistics.Moments();
  }

  absl::StatusOr<PrunedLayer> Prune(bool refine) {
    if (settings_.criterion == PruningCriterion::kSparseGpt && !settings_.refine) {
      return PruneWithUpdate();
    }
    ESPALIER_ASSIGN_OR_RETURN(Initial initial, ChooseInitial());
    PrunedLayer layer;
    layer.mask = std::move(initial.mask);
    if (settings_.refine && refine) {
      layer.initial_error = ErrorOf(Applied(layer.mask));
      sparsity::DsnotOptions options = settings_.dsnot;
      options.threshold *= static_cast<double>(statistics_.tokens()) /
                           static_cast<double>(statistics_.sequences()) / kThresholdTokens;
      layer.exchanged = sparsity::RefineMask(weights_, moments_, initial.factors, settings_.pattern,
                                             options, threads_, layer.mask)
                            .exchanges;
    }
    layer.values = Applied(layer.mask);
    layer.error = ErrorOf(layer.values);
    return layer;
  }

 private:
  absl::StatusOr<PrunedLayer> PruneWithUpdate() {
    ESPALIER_ASSIGN_OR_RETURN(const sparsity::InverseFactor factor, Factor());
    PrunedLayer layer;
    layer.values.assign(weights_.values.begin(), weights_.values.end());
    ESPALIER_ASSIGN_OR_RETURN(
        layer.mask, sparsity::SparseGptPrune(layer.values, weights_.rows, factor, settings_.pattern,
                                             settings_.block, threads_));
    layer.error = ErrorOf(layer.values);
    return layer;
  }

  absl::StatusOr<sparsity::InverseFactor> Factor() const {
    return sparsity::FactorInverse(gram_, weights_.columns, settings_.damping);
  }

  absl::StatusOr<Initial> ChooseInitial() const {
    Initial initial;
    if (settings_.criterion == PruningCriterion::kMagnitude) {
      initial.factors.assign(weights_.columns, 1.0F);
      // DSnoT exchanges weights within rows, and begins with rows of equal size, as its authors do.
      if (settings_.refine) {
        ESPALIER_ASSIGN_OR_RETURN(initial.mask, sparsity::MaskByRows(weights_, initial.factors,
                                                                     settings_.pattern, threads_));
        return initial;
      }
      ESPALIER_ASSIGN_OR_RETURN(initial.mask,
                                sparsity::MagnitudeMask(weights_, settings_.pattern, threads_));
      return initial;
    }
    if (settings_.criterion == PruningCriterion::kWanda) {
      initial.factors = sparsity::WandaFactors(moments_.sum_squares);
      if (settings_.cumulative) {
        initial.mask = sparsity::WandaCumulativeMask(weights_, moments_.sum_squares,
                                                     settings_.pattern.sparsity, threads_);
        return initial;
      }
    } else {
      ESPALIER_ASSIGN_OR_RETURN(const sparsity::InverseFactor factor, Factor());
      initial.factors = sparsity::SparseGptFactors(factor);
      for (size_t j = 0; j < factor.dead.size(); ++j) {
        if (factor.dead[j] != 0) initial.factors[j] = 0;
      }
    }
    ESPALIER_ASSIGN_OR_RETURN(
        initial.mask, sparsity::MaskByRows(weights_, initial.factors, settings_.pattern, threads_));
    return initial;
  }

  std::vector<float> Applied(const Mask& mask) const {
    std::vector<float> values(weights_.values.begin(), weights_.values.end());
    sparsity::Apply(mask, values);
    return values;
  }

  std::optional<LayerError> ErrorOf(std::span<const float> values) {
    if (!settings_.layer_errors) return std::nullopt;
    if (!whole_) whole_ = sparsity::OutputError(weights_, {}, gram_, threads_);
    if (!(*whole_ > 0)) return LayerError{};
    const double error = sparsity::OutputError(weights_, values, gram_, threads_);
    return LayerError{.output = std::sqrt(error / *whole_),
                      .expected = std::sqrt(ExpectedSquare(values) / *whole_)};
  }

  // Σ over rows of ((W − W')·mean)², for all tokens of a sequence.
  double ExpectedSquare(std::span<const float> values) const {
    double sum = 0;
    for (int64_t i = 0; i < weights_.rows; ++i) {
      const std::span<const float> row = weights_.row(i);
      double difference = 0;
      for (int64_t j = 0; j < weights_.columns; ++j) {
        difference +=
            (static_cast<double>(row[j]) - values[i * weights_.columns + j]) * moments_.mean[j];
      }
      sum += difference * difference;
    }
    return sum * static_cast<double>(statistics_.tokens()) /
           static_cast<double>(statistics_.sequences());
  }

  const sparsity::WeightsView& weights_;
  const sparsity::ActivationStatistics& statistics_;
  const PruningSettings& settings_;
  int threads_;
  std::vector<double> gram_;
  sparsity::ColumnMoments moments_;
  std::optional<double> whole_;
};

}  // namespace

absl::StatusOr<PrunedLayer> PruneLayer(const sparsity::WeightsView& weights,
                                       const sparsity::ActivationStatistics& statistics,
                                       const PruningSettings& settings, bool refine, int threads) {
  if (statistics.sequences() == 0) {
    return base::FailedPrecondition(
        "NO_CALIBRATION_DATA",
        "expected calibration examples on at least one worker, found none; give the data set "
        "training text of at least data.text.context + 1 tokens");
  }
  return LayerPruner(weights, statistics, settings, threads).Prune(refine);
}

void Describe(const PrunedLayer& pruned, v1::LayerSummary& summary) {
  summary.set_exchanged(pruned.exchanged);
  if (pruned.error) summary.set_output_error(pruned.error->output);
  if (pruned.initial_error) summary.set_initial_output_error(pruned.initial_error->output);
}

int PruningThreads() {
  return static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1U, kMaxThreads));
}

}  // namespace espalier::server::methods
