// The rules of ModelSpec: ranges, kinds of layers, and whether their shapes fit each other.
#pragma once

#include "common/config/checker.h"
#include "espalier/v1/job.pb.h"

namespace espalier::config {

// Whether the layers are those of a trained model, which only the coordinator can look up.
inline bool IsLeftToPretrained(const v1::ModelSpec& model) {
  return !model.pretrained().empty() && model.layers().empty() && model.name().empty() &&
         !model.has_transformer();
}

// Appends violations to `at`, the checker of the model's path. `method` tells how many weights will
// be stored at least.
void ValidateModel(const v1::ModelSpec& given, const v1::MethodSpec& method, const Checker& at);

}  // namespace espalier::config
