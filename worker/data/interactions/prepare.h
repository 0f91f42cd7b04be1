// Filters and splits of interactions in memory. Internal to this folder; use interactions.h.
//
// Errors:      also Cancelled, when the options say so.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "espalier/v1/data.pb.h"
#include "worker/data/interactions/interactions.h"
#include "worker/data/interactions/read.h"

namespace espalier::worker::data {

// Leaves out what comes again, then users and items with fewer than user_core and item_core
// interactions, again and again until no more goes. With a test file, cores are counted over the
// training interactions, and of the test interactions those of users and items that went go as
// well. Errors: DATASET_INVALID (naming `file`) when nothing is left.
absl::Status Filter(const v1::Interactions& spec, const std::string& file,
                    const LoadOptions& options, RawInteractions& raw, InteractionNotes& notes);

// Only the first of interactions of the same user and item stays, and none of the test part that is
// in training.
absl::Status Deduplicate(const LoadOptions& options, RawInteractions& raw, InteractionNotes& notes);

// The split that is meant.
v1::Interactions::Split SplitOf(const v1::Interactions& spec, bool has_test_file);

// Fills the lists of `data`, whose users and items are set. Errors: DATASET_INVALID, when the split
// leaves nothing for training or for evaluation, or LEAVE_ONE_OUT finds every user's items sorted.
absl::Status Split(const v1::Interactions& spec, const std::string& file,
                   const LoadOptions& options, uint64_t seed, const RawInteractions& raw,
                   InteractionData& data);

}  // namespace espalier::worker::data
