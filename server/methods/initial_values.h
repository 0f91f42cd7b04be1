// Initial values of a model.
//
// Determinism: values of tensor t come from the stream StreamKey(seed, "init", {t}); drawn on the
//              coordinator and sent, since Normal() depends on the C library.
#pragma once

#include <vector>

#include "common/base/rng.h"
#include "common/tensor/model.h"
#include "common/wire/model_spec/model_spec.h"
#include "espalier/v1/model.pb.h"

namespace espalier::server::methods {

// The first values of one tensor that stores `stored` of them, one after the other, so that a dense
// tensor can be looked through without being kept.
class InitialStream {
 public:
  InitialStream(const wire::ModelTensor& what, size_t tensor, int64_t stored, uint64_t seed);
  float Next();

 private:
  float constant_ = 0;
  double deviation_ = 0;  // 0: all are constant_
  base::Rng rng_;
};

// Values in layout order. Biases, shifts and running means are 0, scales and running variances 1
// (scales of a standardised convolution with ReLU 1.713, see ModelTensor::gain).
// The fans of HE and GLOROT count active weights: fan-in = nnz / outputs and fan-out = nnz /
// inputs, neither below 1, so that the variance of a unit's input does not depend on the density.
// `spec` has its defaults filled in, `topology` its layout.
std::vector<float> InitialValues(const v1::ModelSpec& spec, const tensor::ModelTopology& topology,
                                 uint64_t seed);

}  // namespace espalier::server::methods
