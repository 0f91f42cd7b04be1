// Initial values of a model.
//
// Determinism: values of tensor t come from the stream StreamKey(seed, "init", {t}); drawn on the
//              coordinator and sent, since Normal() depends on the C library.
#pragma once

#include <vector>

#include "common/tensor/model.h"
#include "espalier/v1/model.pb.h"

namespace espalier::server::methods {

// Values in layout order. Biases, shifts and running means are 0, scales and running variances 1.
// The fans of HE and GLOROT count active weights: fan-in = nnz / outputs and fan-out = nnz /
// inputs, neither below 1, so that the variance of a unit's input does not depend on the density.
// `spec` has its defaults filled in, `topology` its layout.
std::vector<float> InitialValues(const v1::ModelSpec& spec, const tensor::ModelTopology& topology,
                                 uint64_t seed);

}  // namespace espalier::server::methods
