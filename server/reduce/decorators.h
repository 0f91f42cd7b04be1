// Reducers around a reducer: one changes updates before they are folded, one keeps them.
//
// Threading:   as Reducer.
// Determinism: as the reducer inside.
// Errors:      those of the reducer inside.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "server/reduce/reducer.h"

namespace espalier::server::reduce {

// Scales the difference of an update from `reference` (the step's model) down to an L2 norm of at
// most `norm`. The norm is that of the learned weights; running statistics go the same share of
// their way, and scores are scaled by the same factor. An update within the norm is not touched.
// Memory:      4 bytes per stored weight.
class ClippingReducer : public Reducer {
 public:
  ClippingReducer(std::unique_ptr<Reducer> inner, double norm, const wire::ResultLayout& layout,
                  std::span<const float> reference);
  absl::Status Merge(const Partial& partial) override;
  void Refused(int64_t participants) override { inner_->Refused(participants); }
  // What is saved was clipped before.
  absl::StatusOr<std::string> Save() const override { return inner_->Save(); }
  absl::Status Absorb(std::string_view saved) override { return inner_->Absorb(saved); }
  absl::StatusOr<Reduced> Finish() override { return inner_->Finish(); }

 private:
  absl::StatusOr<double> NormOf(const Partial& partial) const;

  std::unique_ptr<Reducer> inner_;
  double norm_;
  std::vector<wire::ResultLayout::Range> weights_;
  std::vector<float> reference_;
};

// The result of the reducer inside, and in Reduced::updates what each participant sent for the
// first `stored` values, the weights.
// Memory:      4 bytes per stored weight and participant.
class KeepingReducer : public Reducer {
 public:
  KeepingReducer(std::unique_ptr<Reducer> inner, int64_t stored)
      : inner_(std::move(inner)), stored_(stored) {}
  absl::Status Merge(const Partial& partial) override;
  void Refused(int64_t participants) override { inner_->Refused(participants); }
  absl::StatusOr<std::string> Save() const override;
  absl::Status Absorb(std::string_view saved) override;
  absl::StatusOr<Reduced> Finish() override;

 private:
  std::unique_ptr<Reducer> inner_;
  int64_t stored_;
  std::map<std::string, Update> updates_;
};

}  // namespace espalier::server::reduce
