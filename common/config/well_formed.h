// What holds for every field of a job, whatever it is for: texts, lists and nesting have bounds,
// numbers are finite and enums have known values. The rules of single fields (validate.h) and
// whatever is computed from a job come after these.
//
// Threading, determinism: pure functions.
#pragma once

#include <google/protobuf/message.h>

#include <vector>

#include "common/config/checker.h"

namespace espalier::config {

// Appends a violation for each text and list of `message` that is too long, and one when it has too
// many messages or too deep ones. Takes time by what it accepts, not by what it is given. Returns
// whether there was nothing to append.
bool CheckSizes(const google::protobuf::Message& message, const Checker& at);

// Appends a violation for each number that is not finite and each unknown enum value, except for
// fields that `violations` names already. The sizes of `message` were checked.
void CheckValues(const google::protobuf::Message& message, std::vector<Violation>& violations);

}  // namespace espalier::config
