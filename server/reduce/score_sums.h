// ScoreSums: exact weighted sums of sparse score lists, one per tensor.
//
// Memory:      24 bytes per position reported by anyone.
// Threading:   not thread-safe.
// Determinism: independent of the order of Add() calls (fixed point).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/io/byte_codec.h"
#include "common/tensor/model.h"
#include "server/reduce/fixed_point.h"
#include "server/reduce/reducer.h"

namespace espalier::server::reduce {

class ScoreSums {
 public:
  explicit ScoreSums(std::shared_ptr<const tensor::ModelTopology> topology)
      : topology_(std::move(topology)) {}

  const std::shared_ptr<const tensor::ModelTopology>& topology() const { return topology_; }
  // Errors: InvalidArgument (SHAPE_MISMATCH, NON_FINITE, VALUE_IMPOSSIBLE): positions must ascend
  // and be inactive, lists must be as long as their values, one list per tensor or none at all.
  absl::Status Check(const std::vector<ScoreList>& lists) const;
  // Largest |value| of all lists, as bits.
  static uint32_t LargestMagnitude(const std::vector<ScoreList>& lists);
  // Adds lists that Check() accepted.
  void Add(const std::vector<ScoreList>& lists, int64_t weight);
  // What was added so far, to be read by Read(); other fields follow.
  void Save(io::ByteWriter& writer) const;
  // Errors: SAVED_SUMS_INVALID for what Save() of sums of this structure did not write.
  static absl::StatusOr<ScoreSums> Read(std::shared_ptr<const tensor::ModelTopology> topology,
                                        io::ByteReader& reader);
  // Adds all that was added to `other`, of the same structure.
  void Absorb(const ScoreSums& other);
  // Sums divided by `total_weight`; a participant that did not report a position counts as 0 there.
  std::vector<ScoreList> Means(double total_weight) const;

 private:
  struct Sums {
    std::vector<int64_t> positions;
    std::vector<FixedPoint> sums;
  };
  static void Merge(const Sums& addition, Sums& sums);

  std::shared_ptr<const tensor::ModelTopology> topology_;
  std::vector<Sums> tensors_;  // empty until a partial brings lists
};

}  // namespace espalier::server::reduce
