// Rules for training.frozen and for what goes with it.
//
// Threading, determinism: pure functions.
#pragma once

#include "common/config/checker.h"
#include "espalier/v1/job.pb.h"

namespace espalier::config {

// Appends all violations; `at` is the root of the spec. Names of tensors are looked at where the
// model's numbers are in range (`has_shapes`) and it says its layers: one that is still to be read
// from model.pretrained has none.
void ValidateFrozen(const v1::JobSpec& spec, bool has_shapes, const Checker& at);

}  // namespace espalier::config
