// The kinds themselves, for data_kind.cc: one of each; and what two of them share.
//
// Threading: safe; they are made at their first use.
#pragma once

#include <optional>

#include "server/datasets/kinds/data_kind.h"

namespace espalier::server::datasets {

// Tables, arrays and images.
const DataKind& FeatureData();
const DataKind& TextData();
const DataKind& InteractionData();

// Interactions in the place of other data. A table without known names may hold either, and has
// features then.
std::optional<config::Violation> OnlyInteractions(const v1::DatasetInfo& info);

}  // namespace espalier::server::datasets
