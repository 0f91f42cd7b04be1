// What a method asks of training beside the training itself: the additions of a TrainTask.
//
// Threading: pure functions.
#pragma once

#include <initializer_list>
#include <string_view>

#include "absl/status/status.h"
#include "espalier/v1/worker.pb.h"

namespace espalier::wire {

// The addition of one kind: `AdditionOf(task, v1::TrainAddition::kGrowth).growth()`. When the task
// has none, an empty one, in which every field has its default and no kind is set.
const v1::TrainAddition& AdditionOf(const v1::TrainTask& task, v1::TrainAddition::KindCase kind);
bool HasAddition(const v1::TrainTask& task, v1::TrainAddition::KindCase kind);

// The task's addition of one kind, which is appended when there is none; the caller sets its kind.
v1::TrainAddition& MutableAddition(v1::TrainTask& task, v1::TrainAddition::KindCase kind);

// Whether training on `family` ("networks", "recommenders") can do all that the task asks for.
// Errors: Unimplemented (TASK_ADDITION_UNKNOWN) for a kind that is not among `known`, or that this
// version does not know; InvalidArgument (TASK_INVALID) for a kind that is there twice.
absl::Status CheckAdditions(const v1::TrainTask& task,
                            std::initializer_list<v1::TrainAddition::KindCase> known,
                            std::string_view family);

}  // namespace espalier::wire
