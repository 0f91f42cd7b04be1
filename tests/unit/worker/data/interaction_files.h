// What tests of interactions share.
#pragma once

#include <gtest/gtest.h>

#include <memory>

#include "tests/unit/worker/data/test_files.h"
#include "worker/data/interactions/interactions.h"

namespace espalier::worker::data {

using Loaded = std::shared_ptr<const InteractionData>;

// Of the folder "set", all of it on one shard.
inline v1::DataSpec InteractionSpec(v1::Interactions::Split split) {
  v1::DataSpec spec;
  spec.set_dataset("set");
  spec.mutable_interactions()->set_split(split);
  spec.mutable_partition()->set_kind(v1::Partition::KIND_USERS);
  spec.mutable_partition()->set_shards(1);
  return spec;
}

// The test fails when it cannot be loaded.
inline Loaded MustLoad(const DataFolder& folder, const v1::DataSpec& spec, uint64_t seed = 1) {
  auto data = LoadInteractions(folder.path(), spec, seed);
  EXPECT_TRUE(data.ok()) << data.status();
  return data.ok() ? *data : std::make_shared<const InteractionData>();
}

}  // namespace espalier::worker::data
