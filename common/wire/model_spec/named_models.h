// Well-known networks by name, as the lists of layers that everything else works with.
//
// resnet8, resnet20: He et al. 2015, section 4.2 (CIFAR-10): 16, 32 and 64 channels, 1 or 3 blocks
//                    each; shortcuts that change the shape are 1 × 1 convolutions (option B).
// resnet18:          the CIFAR-10 form: a 3 × 3 stem without pooling, 64 to 512 channels, 2 blocks
//                    each.
// vgg11:             Simonyan and Zisserman 2014, configuration A with one linear layer (CIFAR-10).
// lenet5:            LeCun et al. 1998 with ReLU and max pooling.
//
// Threading: pure functions.
#pragma once

#include <string>
#include <vector>

#include "espalier/v1/model.pb.h"

namespace espalier::wire {

// All names, in the order in which they are listed to people.
std::vector<std::string> ModelNames();

// `spec` with layers in place of a name, and with input_features where the image says them. Specs
// without a name, or with a name or parameters that the job's validator refuses, stay as they are.
// Idempotent.
v1::ModelSpec ExplicitModel(const v1::ModelSpec& spec);

}  // namespace espalier::wire
