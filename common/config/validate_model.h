// The rules of ModelSpec: ranges, kinds of layers, and whether their shapes fit each other.
#pragma once

#include "common/config/checker.h"
#include "espalier/v1/job.pb.h"

namespace espalier::config {

// Appends violations to `at`, the checker of the model's path. `method` tells how many weights will
// be stored at least.
void ValidateModel(const v1::ModelSpec& given, const v1::MethodSpec& method, const Checker& at);

}  // namespace espalier::config
