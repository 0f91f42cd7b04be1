// What a JobRunner does on the pool: the program's next transition, its blobs and its checkpoint.
#include <utility>

#include "absl/time/time.h"
#include "common/base/status.h"
#include "common/io/sha256.h"
#include "common/log/log.h"
#include "common/wire/compact_values.h"
#include "common/wire/topology_codec.h"
#include "common/wire/values_codec.h"
#include "server/jobs/job_runner.h"
#include "server/pretrained/part_store.h"

namespace espalier::server::jobs {
namespace {

std::vector<wire::TensorChange> ToWire(const methods::StructureChange& change) {
  std::vector<wire::TensorChange> result;
  result.reserve(change.tensors.size());
  for (const auto& tensor : change.tensors) {
    result.push_back({tensor.tensor, tensor.diff, tensor.growth_key});
  }
  return result;
}

// Of everything that the model consists of.
std::string HashOf(const methods::LanguageModel& model) {
  std::string digests = io::Sha256Hex(model.config.json) + model.outer.digest;
  for (const auto& block : model.blocks) digests += block.digest;
  return io::Sha256Hex(digests);
}

}  // namespace

absl::StatusOr<JobRunner::Prepared> JobRunner::Prepare(
    const std::function<absl::StatusOr<methods::Transition>()>& next) const {
  const absl::Duration start = services_.clock.Elapsed();
  Prepared prepared;
  ESPALIER_ASSIGN_OR_RETURN(prepared.transition, next());
  ESPALIER_RETURN_IF_ERROR(Publish(prepared));
  prepared.prepare_seconds = absl::ToDoubleSeconds(services_.clock.Elapsed() - start);
  if (prepared.transition.checkpoint != nullptr) {
    const tensor::ModelState& model = *prepared.transition.checkpoint;
    prepared.model_hash =
        io::Sha256Hex(model.topology->hash() + io::Sha256Hex(wire::ValuesAsBytes(model.values)));
  }
  const v1::Checkpointing& policy = job_.spec().checkpoint();
  const methods::Transition& transition = prepared.transition;
  const bool last = !transition.state.step.has_value();
  if (transition.language_checkpoint != nullptr) {
    prepared.model_hash = HashOf(*transition.language_checkpoint);
  }
  if (transition.committed.has_value() &&
      (transition.checkpoint != nullptr || transition.language_checkpoint != nullptr) &&
      (last ||
       (policy.every_rounds() > 0 && transition.state.round % policy.every_rounds() == 0))) {
    WriteCheckpoint(prepared);
  }
  return prepared;
}

absl::Status JobRunner::Publish(Prepared& prepared) const {
  if (!prepared.transition.state.step.has_value()) return absl::OkStatus();
  prepared.language = PublishLanguageModel(prepared.transition.state.language, language_.get(),
                                           traffic_, services_.blobs);
  const tensor::ModelState& model = prepared.transition.state.model;
  // What participants train on was rounded by the program (TrainingProgram), so that nothing is
  // lost here. What is evaluated was not.
  const v1::SectionType down = wire::SectionTypeOf(job_.spec().wire().down());
  const bool compact = prepared.transition.state.step->task.has_train() && wire::IsCompact(down);
  prepared.values_type = compact ? down : v1::SECTION_TYPE_F32;
  prepared.values =
      services_.blobs.Put(compact ? wire::EncodeCompact(*model.topology, down, model.values)
                                  : std::string(wire::ValuesAsBytes(model.values)),
                          true, traffic_);
  if (!model.optimizer_state.empty() && prepared.transition.state.step->task.has_train()) {
    prepared.optimizer_state = services_.blobs.Put(
        std::string(wire::ValuesAsBytes(model.optimizer_state)), true, traffic_);
  }
  if (prepared.transition.state.step->task.train().training().control_variates()) {
    prepared.corrections = PublishCorrections(prepared.transition.state.server,
                                              ChooseParticipants(*prepared.transition.state.step),
                                              traffic_, services_.blobs);
  }
  if (state_.model.topology != nullptr && state_.model.topology->hash() == model.topology->hash()) {
    prepared.topology = topology_;
    prepared.update = update_;
    prepared.update_base_hash = update_base_hash_;
    return absl::OkStatus();
  }
  ESPALIER_ASSIGN_OR_RETURN(const auto full, wire::EncodeTopology(*model.topology));
  prepared.topology = services_.blobs.Put(full.SerializeAsString(), false, traffic_);
  if (!prepared.transition.structure_change.has_value()) return absl::OkStatus();
  const auto& change = *prepared.transition.structure_change;
  ESPALIER_ASSIGN_OR_RETURN(
      const auto update, wire::EncodeTopologyUpdate(*change.base, *model.topology, ToWire(change)));
  prepared.update = services_.blobs.Put(update.SerializeAsString(), false, traffic_);
  prepared.update_base_hash = change.base->hash();
  return absl::OkStatus();
}

absl::StatusOr<checkpoint::CheckpointInfo> JobRunner::WriteModel(
    const methods::Transition& transition, const checkpoint::CheckpointMetadata& metadata) const {
  if (transition.checkpoint != nullptr) {
    std::vector<checkpoint::AttachedFile> attached;
    if (transition.state.companions != nullptr) {
      for (const auto& [name, part] : transition.state.companions->files) {
        attached.push_back({name, part.bytes()});
      }
    }
    return services_.checkpoints.Write(*transition.checkpoint, metadata, attached);
  }
  return WriteLanguageCheckpoint(*transition.language_checkpoint, metadata, services_.checkpoints);
}

void JobRunner::WriteCheckpoint(Prepared& prepared) const {
  const absl::Duration start = services_.clock.Elapsed();
  const v1::RoundSummary& summary = *prepared.transition.committed;
  const std::string job = job_.name().substr(sizeof("jobs/") - 1);
  checkpoint::CheckpointMetadata metadata;
  metadata.job = job;
  metadata.round = summary.round();
  metadata.model_spec = job_.spec().model();
  metadata.data_spec = job_.spec().data();
  metadata.seed = job_.spec().seed();
  metadata.main_metric_name = job_.spec().evaluation().main_metric();
  if (summary.has_main_metric()) metadata.main_metric = summary.main_metric();
  metadata.create_time = services_.clock.Wall();
  auto written = WriteModel(prepared.transition, metadata);
  if (written.ok()) {
    const auto pruned = services_.checkpoints.Prune(job, job_.spec().checkpoint().keep());
    if (!pruned.ok()) {
      log::Warning("checkpoint_not_pruned",
                   {{"job", job}, {"message", base::MessageOf(pruned.status())}});
    }
  }
  prepared.checkpoint_seconds = absl::ToDoubleSeconds(services_.clock.Elapsed() - start);
  prepared.checkpoint_status = written.status();
  if (written.ok()) prepared.checkpoint = *written;
}

}  // namespace espalier::server::jobs
