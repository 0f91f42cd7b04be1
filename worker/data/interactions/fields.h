// What is known of users and items besides their ids: the fields of AutoInt.
//
// Files:       beside the interactions. Of users users.dat (gender, age, occupation, zip), u.user
//              (the same) or users.csv; of items movies.dat (genres), u.item (genres) or items.csv.
//              A CSV file has a header that names the user (item) and the fields. A cell may hold
//              several values with '|' between them, or none.
// Numbers:     the values of a field are 0, 1, … in their order, by value when all are integers,
//              else by text, as far as the whole file has them; or, when they are not as many as
//              the model says, themselves if all are whole numbers below that. Only the latter with
//              local data, where each worker has another file.
// Determinism: a pure function of the files, the fields and the ids.
// Errors:      DATASET_INVALID names file, line and fix; DATASET_TOO_LARGE and Cancelled by the
//              options.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "espalier/v1/recommender.pb.h"
#include "worker/data/interactions/interactions.h"

namespace espalier::worker::data {

// Names of the files that say what is known of users and items.
std::vector<std::string> FieldTableNames();

// For each of the model's fields the values of every user, or item, of `data`, ascending; none for
// those that the file does not have.
absl::StatusOr<std::vector<ItemLists>> LoadFields(const std::string& root,
                                                  const InteractionData& data,
                                                  const v1::AutoIntModel& model, bool local,
                                                  const LoadOptions& options = {});

}  // namespace espalier::worker::data
