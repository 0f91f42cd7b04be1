// A model with private users as two halves: what is shared, and the rows that stay here.
//
// Order:       shared tensors first, as in wire::RecommenderTensors() and wire::UserTensors().
// Threading:   pure functions.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "common/tensor/model.h"
#include "espalier/v1/worker.pb.h"

namespace espalier::worker::tasks {

// Layout of the tensors with rows of `users` users.
absl::StatusOr<std::shared_ptr<const tensor::ModelLayout>> UserLayout(const v1::Task& task,
                                                                      int64_t users);

// One model of both. Optimizer state stays where both have as many sets, else it starts anew.
absl::StatusOr<tensor::ModelState> Join(const tensor::ModelState& shared,
                                        const tensor::ModelState& rows);

// The tensors of `whole` from `first` on.
absl::StatusOr<tensor::ModelState> RowsOfUsers(const tensor::ModelState& whole, size_t first);

}  // namespace espalier::worker::tasks
