// Networks of sensible size for labelled examples. Pure functions.
#pragma once

#include <cstdint>
#include <string>

#include "espalier/v1/data.pb.h"

namespace espalier::cli::init {

// The lines of `model`, and what follows from its size.
struct Network {
  std::string section;
  double density = 0;  // that suits it
  double work = 0;     // floating-point operations to train on one example at that density
};

// Two hidden layers on features.
Network LinearNetwork(const v1::DatasetInfo& info);
// Two convolutions and a hidden layer on images, whose shape `info` has.
Network ConvolutionalNetwork(const v1::DatasetInfo& info);

}  // namespace espalier::cli::init
