// Which examples a participant trains and tests on.
//
// Source:      Dirichlet split with the N/K cap as in the code of the FedTiny line of papers,
//              pathological split as in LotteryFL and FedDST; plus iid, by group and local.
// Shapes:      indices are rows of the Dataset, ascending. Over all shards every training index
//              of the split occurs exactly once; so does every test index (except classes without
//              shard, see below).
// Determinism: a pure function of (labels, groups, spec, seed, shard). Any worker, asked for any
//              shard in any order, gives the same answer. Dirichlet proportions use the C
//              library's log, exp and cos: workers of one job should run the same C library, as
//              all images of one release do.
// Cost:        O(rows + classes × shards) time per call (by classes: × log classes); memory
//              O(rows + classes + shards).
// Errors:      InvalidArgument DATA_SPEC_INVALID (a field out of range), PARTITION_IMPOSSIBLE
//              (this data cannot be divided like that; the message says what to change).
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "espalier/v1/data.pb.h"
#include "worker/data/dataset.h"

namespace espalier::worker::data {

// Dirichlet shards have at least this many training examples.
inline constexpr int64_t kMinDirichletShard = 10;

struct ShardIndices {
  std::vector<int32_t> train;
  std::vector<int32_t> test;
};

// Checks every field of `spec` that this folder uses, except the names.
absl::Status CheckDataSpec(const v1::DataSpec& spec);

// Training and test rows of the whole data set, before it is divided: test files, or the last
// round(test_fraction × rows) rows where there are none; then train_limit and test_limit rows drawn
// without replacement.
absl::StatusOr<ShardIndices> SplitDataset(const Dataset& dataset, const v1::DataSpec& spec,
                                          uint64_t seed);

// The part of shard `shard` in [0, spec.partition.shards). LOCAL gives the whole split for any
// `shard`. Errors: also Cancelled, when `options` say so.
//
// Test rows are divided like the training rows: iid and by group in equal shares, Dirichlet with
// the proportions drawn for the training rows of each class, classes among the shards that hold the
// class (test rows of a class without training rows are on no shard).
absl::StatusOr<ShardIndices> MakeShard(const Dataset& dataset, const v1::DataSpec& spec,
                                       uint64_t seed, int shard, const LoadOptions& options = {});

}  // namespace espalier::worker::data
