// Running statistics of normalisation layers as a list of their own, in layout order: for each
// layer the means of its channels, then the variances.
//
// Threading: pure functions. Determinism: exact.
#pragma once

#include <span>
#include <vector>

#include "common/tensor/model.h"

namespace espalier::server::methods {

// Puts them where the model has them.
void SetStatistics(std::span<const float> statistics, tensor::ModelState& model);

// Means of variance + mean² become variances: the pooled variance over participants.
void VariancesFromSecondMoments(const tensor::ModelTopology& topology,
                                std::vector<float>& statistics);

// The same where `values` are all of a model's, with the statistics among them.
void VariancesFromSecondMomentsIn(const tensor::ModelTopology& topology, std::span<float> values);

}  // namespace espalier::server::methods
