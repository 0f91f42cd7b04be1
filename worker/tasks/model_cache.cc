#include "worker/tasks/model_cache.h"

#include <utility>

#include "common/base/status.h"
#include "common/wire/compact_values.h"
#include "common/wire/model_spec/model_spec.h"
#include "common/wire/topology_codec.h"
#include "common/wire/values_codec.h"

namespace espalier::worker::tasks {
namespace {

// Of the columns and row offsets of sparse tensors.
int64_t BytesOf(const tensor::ModelTopology& structure) {
  int64_t numbers = 0;
  for (size_t i = 0; i < structure.num_tensors(); ++i) {
    if (!structure.is_sparse(i)) continue;
    numbers += structure.stored(i) + structure.layout()[i].rows + 1;
  }
  return numbers * static_cast<int64_t>(sizeof(int32_t));
}

}  // namespace

ModelCache::Structure ModelCache::Find(const std::string& hash, const Layout& layout) const {
  for (const Structure& structure : structures_) {
    if (structure->hash() == hash && structure->layout() == *layout) return structure;
  }
  return nullptr;
}

absl::StatusOr<ModelCache::Structure> ModelCache::FetchUpdate(const v1::ModelRef& ref,
                                                              const Structure& base) {
  ESPALIER_ASSIGN_OR_RETURN(const std::string bytes, fetch_(ref.topology_update()));
  v1::TopologyUpdate update;
  if (!update.ParseFromString(bytes)) {
    return base::InvalidArgument("TOPOLOGY_INVALID",
                                 "expected a TopologyUpdate, found other bytes");
  }
  return wire::ApplyTopologyUpdate(*base, update);
}

absl::StatusOr<ModelCache::Structure> ModelCache::FetchWhole(const v1::ModelRef& ref,
                                                             const Layout& layout) {
  ESPALIER_ASSIGN_OR_RETURN(const std::string bytes, fetch_(ref.topology()));
  v1::FullTopology full;
  if (!full.ParseFromString(bytes)) {
    return base::InvalidArgument("TOPOLOGY_INVALID", "expected a FullTopology, found other bytes");
  }
  return wire::DecodeTopology(full, layout);
}

absl::StatusOr<ModelCache::Structure> ModelCache::GetStructure(const v1::ModelRef& ref,
                                                               const Layout& layout,
                                                               bool has_runs) {
  if (Structure known = Find(ref.topology_hash(), layout)) return known;
  const Structure base = Find(ref.update_base_hash(), layout);
  ESPALIER_ASSIGN_OR_RETURN(Structure structure, base != nullptr && ref.has_topology_update()
                                                     ? FetchUpdate(ref, base)
                                                     : FetchWhole(ref, layout));
  if (structure->hash() != ref.topology_hash()) {
    return base::FailedPrecondition(
        "TOPOLOGY_HASH_MISMATCH",
        "expected the structure " + ref.topology_hash() + ", found " + structure->hash());
  }
  structures_.push_back(structure);
  DropOldStructures(has_runs);
  return structure;
}

void ModelCache::DropOldStructures(bool has_runs) {
  int64_t bytes = 0;
  for (const Structure& structure : structures_) bytes += BytesOf(*structure);
  const auto fits = [&] {
    return has_runs && structures_.size() <= kKeptOfRuns && bytes <= kBytesOfRuns;
  };
  while (structures_.size() > kKeptStructures && !fits()) {
    bytes -= BytesOf(*structures_.front());
    structures_.pop_front();
  }
}

absl::StatusOr<std::vector<float>> ModelCache::FetchOptimizerState(const v1::Task& task,
                                                                   int64_t stored) {
  if (!task.model().has_optimizer_state()) return std::vector<float>{};
  ESPALIER_ASSIGN_OR_RETURN(const std::string bytes, fetch_(task.model().optimizer_state()));
  return wire::DecodeValues(bytes, static_cast<uint64_t>(wire::CarriedSlots(task) * stored));
}

absl::StatusOr<std::shared_ptr<const tensor::ModelState>> ModelCache::Get(const v1::Task& task) {
  const v1::ModelRef& ref = task.model();
  ESPALIER_ASSIGN_OR_RETURN(const Layout layout, wire::LayoutOf(ref.spec()));
  const bool same_values = model_ != nullptr && values_digest_ == ref.values().digest() &&
                           values_type_ == ref.values_type() &&
                           model_->topology->hash() == ref.topology_hash() &&
                           model_->topology->layout() == *layout;
  const std::string optimizer_digest = ref.optimizer_state().digest();
  if (same_values && optimizer_digest_ == optimizer_digest) return model_;
  auto model = std::make_shared<tensor::ModelState>();
  if (same_values) {
    model->topology = model_->topology;
    model->values = model_->values;
  }
  // Makes room before the next one comes.
  model_ = nullptr;
  if (!same_values) {
    ESPALIER_ASSIGN_OR_RETURN(model->topology, GetStructure(ref, layout, !task.run().empty()));
    ESPALIER_ASSIGN_OR_RETURN(const std::string bytes, fetch_(ref.values()));
    ESPALIER_ASSIGN_OR_RETURN(model->values,
                              wire::IsCompact(ref.values_type())
                                  ? wire::DecodeCompact(*model->topology, ref.values_type(), bytes)
                                  : wire::DecodeValues(bytes, model->topology->total_stored()));
  }
  ESPALIER_ASSIGN_OR_RETURN(model->optimizer_state,
                            FetchOptimizerState(task, model->topology->total_stored()));
  model_ = std::move(model);
  values_digest_ = ref.values().digest();
  values_type_ = ref.values_type();
  optimizer_digest_ = optimizer_digest;
  return model_;
}

void ModelCache::Forget() {
  structures_.clear();
  model_ = nullptr;
}

}  // namespace espalier::worker::tasks
