// OwnersReducer: the mean of updates whose participants changed their own structure:
// w_j = Σ n_k M_kj w_kj / Σ n_k M_kj, over those who have position j (FedDST).
//
// Shapes:      every participant has as many weights in each tensor as the step's model. The result
//              has the union of all their positions; a position that nobody has any more is not in
//              it. Dense tensors are averaged over everybody.
// Determinism: sums and weights are integers, so that the result is bit-identical for any order of
//              arrival. With one participant it is its update, as in MeanReducer.
// Memory:      24 bytes per weight of the step's model and 32 per position grown by anyone.
// Range, errors: as MeanReducer; InvalidArgument (SHAPE_MISMATCH) when a structure does not fit,
//              and for growth scores, which such a step does not have.
// Source:      Bibikar et al., AAAI 2022.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/reduce/fixed_point.h"
#include "server/reduce/ledger.h"
#include "server/reduce/reducer.h"
#include "server/reduce/value_check.h"

namespace espalier::server::reduce {

class OwnersReducer : public Reducer {
 public:
  // `layout`: one value per stored weight.
  OwnersReducer(std::shared_ptr<const tensor::ModelTopology> topology,
                const wire::ResultLayout& layout);
  absl::Status Merge(const Partial& partial) override;
  absl::StatusOr<std::string> Save() const override;
  absl::Status Absorb(std::string_view saved) override;
  absl::StatusOr<Reduced> Finish() override;

 private:
  struct Owned {
    int64_t position;
    FixedPoint sum;
    int64_t weight;
  };
  // What one update adds to one tensor.
  struct Addition {
    int64_t examples;
    std::vector<int32_t> source;     // index in the step's structure of each weight, -1 where grown
    std::vector<int64_t> positions;  // of each weight
    std::vector<Owned> grown;        // ascending
  };

  absl::Status CheckShape(const Partial& partial) const;
  absl::Status Accumulate(const Partial& partial);
  // `piece` are the values of tensor `tensor` from weight `first` on.
  void AddPiece(size_t tensor, int64_t first, std::span<const float> piece, Addition& addition);
  static void Merge(const std::vector<Owned>& addition, std::vector<Owned>& all);
  // What was grown of tensor `tensor` in another reducer. Errors: SAVED_SUMS_INVALID.
  absl::StatusOr<std::vector<Owned>> ReadGrown(size_t tensor, io::ByteReader& reader) const;
  // The union of tensor `tensor`, and its means appended to `values`.
  absl::StatusOr<tensor::Topology> FinishTensor(size_t tensor, std::vector<float>& values) const;

  std::shared_ptr<const tensor::ModelTopology> topology_;
  ValueCheck check_;
  Ledger ledger_{/*min_examples=*/1};
  std::vector<FixedPoint> sums_;           // in the order of topology_
  std::vector<int64_t> weights_;           // examples of those who have each weight
  std::vector<std::vector<Owned>> grown_;  // by tensor, ascending
  SumBound bound_;
  bool broken_ = false;
};

}  // namespace espalier::server::reduce
