// The rules of models of layers: ranges, kinds of layers, and whether their shapes fit each other.
#pragma once

#include "common/config/checker.h"
#include "espalier/v1/job.pb.h"

namespace espalier::config {

// Appends violations to `at`, the checker of the model's path. `method` tells how many weights will
// be stored at least.
void ValidateLayers(const v1::ModelSpec& given, const v1::MethodSpec& method, const Checker& at);

// Whether a model of any family can be stored while it is trained; `field` describes it.
void ValidateSize(const v1::ModelSpec& model, const v1::MethodSpec& method, const char* field,
                  const Checker& at);

}  // namespace espalier::config
