// ModelCache: the models a worker has at hand, so that only what it lacks is fetched.
//
// Structures are kept by hash (the last two, and of models that are trained or compared side by side
// a few more where they are small) and brought up to date by TopologyUpdates; values are kept by
// digest (the last one: evaluation and the next round often start from what was just
// fetched).
// Threading: one task at a time.
// Errors:    the transfer's; TOPOLOGY_HASH_MISMATCH, SHAPE_MISMATCH, NON_FINITE from decoding.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/tensor/model.h"
#include "espalier/v1/worker.pb.h"

namespace espalier::worker::tasks {

class ModelCache {
 public:
  using Fetch = std::function<absl::StatusOr<std::string>(const v1::BlobRef&)>;
  explicit ModelCache(Fetch fetch) : fetch_(std::move(fetch)) {}

  // The model of `task`, with optimizer state where it has any.
  absl::StatusOr<std::shared_ptr<const tensor::ModelState>> Get(const v1::Task& task);
  // Lets go of what is kept.
  void Forget();

 private:
  using Structure = std::shared_ptr<const tensor::ModelTopology>;
  static constexpr size_t kKeptStructures = 2;
  // Of a job with several models, so many as long as they take no more than that.
  static constexpr size_t kKeptOfRuns = 16;
  static constexpr int64_t kBytesOfRuns = int64_t{16} << 20;

  using Layout = std::shared_ptr<const tensor::ModelLayout>;

  absl::StatusOr<Structure> GetStructure(const v1::ModelRef& ref, const Layout& layout,
                                         bool has_runs);
  absl::StatusOr<Structure> FetchUpdate(const v1::ModelRef& ref, const Structure& base);
  absl::StatusOr<Structure> FetchWhole(const v1::ModelRef& ref, const Layout& layout);
  // The hash says nothing of which tensors may be sparse: another job's model may have the same.
  Structure Find(const std::string& hash, const Layout& layout) const;
  void DropOldStructures(bool has_runs);
  absl::StatusOr<std::vector<float>> FetchOptimizerState(const v1::Task& task, int64_t stored);

  Fetch fetch_;
  std::deque<Structure> structures_;  // newest last
  std::shared_ptr<const tensor::ModelState> model_;
  std::string values_digest_;
  v1::SectionType values_type_ = v1::SECTION_TYPE_UNSPECIFIED;
  std::string optimizer_digest_;  // empty when `model_` has no optimizer state
};

}  // namespace espalier::worker::tasks
