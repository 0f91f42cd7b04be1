// quick-selection: an autoencoder trained by SET, whose input units with the strongest connections
// are the features to keep.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/wire/model_spec/model_spec.h"
#include "server/methods/catalog/catalog.h"
#include "server/methods/parameters/params.h"
#include "server/methods/set/set_program.h"
#include "server/methods/start/trained_start.h"

namespace espalier::server::methods {
namespace {

constexpr size_t kFirstWeight = 0;  // of the first layer, in the layout
// So many are told, so that a job fits into one message.
constexpr size_t kMostFeatures = 10'000;
constexpr double kFeatureBytes = 200;  // of a record

// Adds |value| to the sum of its input, row by row.
void AddMagnitudes(const tensor::ModelTopology& topology, std::span<const float> values,
                   std::span<const int32_t> dropped, std::vector<double>& sums) {
  const auto inputs = static_cast<size_t>(topology.layout()[kFirstWeight].cols);
  const bool sparse = topology.is_sparse(kFirstWeight);
  auto skipped = dropped.begin();
  for (size_t i = 0; i < values.size(); ++i) {
    if (skipped != dropped.end() && *skipped == static_cast<int32_t>(i)) {
      ++skipped;
      continue;
    }
    const size_t input =
        sparse ? static_cast<size_t>(topology.topology(kFirstWeight).columns()[i]) : i % inputs;
    sums[input] += std::abs(static_cast<double>(values[i]));
  }
}

class QuickSelectionProgram : public SetProgram {
 public:
  QuickSelectionProgram(const v1::JobSpec& spec, SetOptions options, int64_t features,
                        std::shared_ptr<const pretrained::ModelLibrary> library)
      : SetProgram(spec, options, std::move(library)),
        features_(features),
        removed_(options.final_removal) {}

 protected:
  // Strength of input i: Σ_j |w_ij| over the connections that the removal of the last round
  // leaves. Among equals the feature of lower index comes first.
  std::vector<v1::FeatureStrength> Features(const ProgramState& state) const override {
    const tensor::ModelTopology& topology = *state.model.topology;
    // Where the removal was carried out, nothing more goes.
    std::vector<int32_t> dropped;
    if (topology.is_sparse(kFirstWeight) && !removed_) dropped = Dropped(state, kFirstWeight);
    std::vector<double> sums(static_cast<size_t>(topology.layout()[kFirstWeight].cols), 0.0);
    AddMagnitudes(topology, state.model.tensor(kFirstWeight), dropped, sums);
    std::vector<size_t> order(sums.size());
    std::iota(order.begin(), order.end(), size_t{0});
    const size_t told = std::min(order.size(), kMostFeatures);
    std::ranges::partial_sort(
        order, order.begin() + static_cast<std::ptrdiff_t>(told),
        [&](size_t a, size_t b) { return sums[a] != sums[b] ? sums[a] > sums[b] : a < b; });
    std::vector<v1::FeatureStrength> features(told);
    for (size_t i = 0; i < told; ++i) {
      features[i].set_index(static_cast<int64_t>(order[i]));
      features[i].set_strength(sums[order[i]]);
      features[i].set_selected(static_cast<int64_t>(i) < features_);
    }
    return features;
  }

 private:
  int64_t features_;
  bool removed_;
};

void ValidateQuickSelection(const v1::JobSpec& spec, const config::Parameters& parameters,
                            std::vector<config::Violation>& violations) {
  ValidateBudget(spec, parameters, violations);
  if (spec.data().target() != v1::DataSpec::TARGET_INPUT) {
    violations.push_back({"data.target",
                          "expected input, since the model is an autoencoder, found another; set "
                          "data.target: input"});
  }
  const auto& layers = spec.model().layers();
  const auto first_kept = std::ranges::find_if_not(layers, &v1::Layer::has_flatten);
  if (first_kept == layers.end() || !first_kept->has_linear()) {
    violations.push_back({"model.layers[0]",
                          "expected a linear layer that is given the features as they are, found "
                          "another; begin with a linear layer"});
    return;
  }
  const auto layout = wire::LayoutOf(spec.model());
  if (!layout.ok() || (*layout)->empty()) return;
  const tensor::TensorSpec& first = (**layout)[kFirstWeight];
  if (!first.sparsifiable) {
    violations.push_back({"model.layers[0]",
                          "expected a first layer that may be sparse, whose weights tell the "
                          "strength of features, found a dense one; remove dense: true"});
  } else if (parameters.Int("features") > first.cols) {
    violations.push_back(
        {"method.parameters.features",
         fmt::format("expected at most as many features as the model has inputs, {}, found {}; "
                     "lower it",
                     first.cols, parameters.Int("features"))});
  }
}

}  // namespace

MethodDeclaration QuickSelectionMethod(const Library& library) {
  return {
      .name = "quick-selection",
      .summary =
          "Feature selection: a sparse denoising autoencoder by SET, and its strongest inputs.",
      .source =
          "Atashgahi et al., Quick and Robust Feature Selection: the Strength of Energy-efficient "
          "Sparse Training for Autoencoders, Machine Learning 2022, arXiv 2012.00560",
      .parameters = params::With(
          SetParameters(/*epsilon=*/13, /*zeta=*/0.2),
          {params::Whole("features", 50, 1, kMostFeatures, "How many features are selected.")}),
      .needs = {ModelNeed::kTraining, ModelNeed::kInputWeights},
      .validate = ValidateQuickSelection,
      .make =
          [library](const v1::JobSpec& spec, const config::Parameters& parameters) {
            return std::make_unique<QuickSelectionProgram>(spec, SetOptionsOf(spec, parameters),
                                                           parameters.Int("features"), library);
          },
      .stored_counts =
          [library](const v1::JobSpec& spec, const config::Parameters& parameters) {
            return StartCounts(spec, parameters, library.get());
          },
      .demand = [](const v1::JobSpec& spec,
                   const config::Parameters&) -> absl::StatusOr<CoordinatorDemand> {
        CoordinatorDemand demand;
        // A sum and a place for each input, too, while they are compared.
        demand.other_bytes =
            kFeatureBytes * kMostFeatures +
            16.0 * static_cast<double>(std::max<int64_t>(0, spec.model().input_features()));
        return demand;
      },
  };
}

}  // namespace espalier::server::methods
