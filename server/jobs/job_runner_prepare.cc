// What a JobRunner does on the pool: the program's next transition, its blobs and its checkpoint.
#include <algorithm>
#include <new>
#include <stdexcept>
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

absl::Status OutOfMemory() {
  return base::MakeError(absl::StatusCode::kResourceExhausted, "OUT_OF_MEMORY",
                         "the coordinator has not enough memory left for it");
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
  return prepared;
}

void JobRunner::KeepModels(Prepared& prepared) const {
  prepared.checkpoint_status = absl::OkStatus();
  const std::vector<methods::Outcome*> outcomes = OutcomesOf(prepared.transition);
  for (size_t i = prepared.kept.size(); i < outcomes.size(); ++i) {
    auto kept = Keep(*outcomes[i], prepared.transition);
    if (!kept.ok()) {
      prepared.checkpoint_status = kept.status();
      return;
    }
    prepared.kept.push_back(*std::move(kept));
  }
}

absl::Status JobRunner::Publish(Prepared& prepared) const {
  std::vector<methods::Outcome*> outcomes = OutcomesOf(prepared.transition);
  for (const methods::ProgramState* state : StepsInWork(prepared.transition.state)) {
    auto branch = FindBranch(branches_, state->run);
    if (branch == nullptr) branch = std::make_shared<Branch>(state->run, job_.name());
    prepared.branches.push_back(std::move(branch));
    const auto outcome =
        std::find_if(outcomes.begin(), outcomes.end(),
                     [&](const methods::Outcome* one) { return one->run == state->run; });
    const bool changes = outcome != outcomes.end() && (*outcome)->structure_change.has_value();
    ESPALIER_ASSIGN_OR_RETURN(
        PublishedModel model,
        PublishModel(*state, changes ? &*(*outcome)->structure_change : nullptr,
                     *prepared.branches.back()));
    prepared.models.push_back(std::move(model));
  }
  return absl::OkStatus();
}

absl::StatusOr<PublishedModel> JobRunner::PublishModel(const methods::ProgramState& state,
                                                       const methods::StructureChange* update,
                                                       const Branch& branch) const {
  PublishedModel published;
  const auto& traffic = branch.traffic;
  published.language =
      PublishLanguageModel(state.language, branch.model.language.get(), traffic, services_.blobs);
  const tensor::ModelState& model = state.model;
  const bool trains = state.step->task.has_train();
  // What participants train on was rounded by the program (TrainingProgram), so that nothing is
  // lost here. What is evaluated was not.
  const v1::SectionType down = wire::SectionTypeOf(job_.spec().wire().down());
  const bool compact = trains && wire::IsCompact(down);
  published.values_type = compact ? down : v1::SECTION_TYPE_F32;
  published.values =
      services_.blobs.Put(compact ? wire::EncodeCompact(*model.topology, down, model.values)
                                  : std::string(wire::ValuesAsBytes(model.values)),
                          true, traffic);
  if (!model.optimizer_state.empty() && trains) {
    published.optimizer_state =
        services_.blobs.Put(std::string(wire::ValuesAsBytes(model.optimizer_state)), true, traffic);
  }
  if (state.step->task.train().training().control_variates()) {
    // Those of `branch` are of the step before, unless that one goes on.
    const auto participants =
        resuming_ ? ParticipantsOf(*state.step, branch) : ChooseParticipants(*state.step);
    published.corrections =
        PublishCorrections(state.server, participants, traffic, services_.blobs);
  }
  published.structure = model.topology;
  const PublishedModel& before = branch.model;
  if (before.structure != nullptr && before.structure->hash() == model.topology->hash()) {
    published.topology = before.topology;
    published.update = before.update;
    published.update_base_hash = before.update_base_hash;
    return published;
  }
  ESPALIER_ASSIGN_OR_RETURN(const auto full, wire::EncodeTopology(*model.topology));
  published.topology = services_.blobs.Put(full.SerializeAsString(), false, traffic);
  if (update == nullptr) return published;
  ESPALIER_ASSIGN_OR_RETURN(
      const auto encoded,
      wire::EncodeTopologyUpdate(*update->base, *model.topology, ToWire(*update)));
  published.update = services_.blobs.Put(encoded.SerializeAsString(), false, traffic);
  published.update_base_hash = update->base->hash();
  return published;
}

absl::StatusOr<JobRunner::Kept> JobRunner::Keep(const methods::Outcome& outcome,
                                                const methods::Transition& transition) const {
  Kept kept;
  if (!outcome.committed.has_value()) return kept;
  if (outcome.checkpoint != nullptr) {
    const tensor::ModelState& model = *outcome.checkpoint;
    kept.model_hash =
        io::Sha256Hex(model.topology->hash() + io::Sha256Hex(wire::ValuesAsBytes(model.values)));
  } else if (outcome.language_checkpoint != nullptr) {
    kept.model_hash = HashOf(*outcome.language_checkpoint);
  } else {
    return kept;
  }
  if (IsCheckpointed(outcome, transition)) {
    ESPALIER_RETURN_IF_ERROR(WriteCheckpoint(outcome, transition.state.companions, kept));
  }
  return kept;
}

bool JobRunner::IsCheckpointed(const methods::Outcome& outcome,
                               const methods::Transition& transition) const {
  if (!outcome.committed.has_value() ||
      (outcome.checkpoint == nullptr && outcome.language_checkpoint == nullptr)) {
    return false;
  }
  const v1::RoundSummary& summary = *outcome.committed;
  const int32_t round = summary.run().empty() ? summary.round() : summary.run_round();
  const int32_t every = job_.spec().checkpoint().every_rounds();
  const bool last = outcome.ends_run || StepsInWork(transition.state).empty();
  return last || (every > 0 && round % every == 0);
}

bool JobRunner::WritesCheckpoint(methods::Transition& transition) const {
  return std::ranges::any_of(OutcomesOf(transition), [&](const methods::Outcome* outcome) {
    return IsCheckpointed(*outcome, transition);
  });
}

absl::StatusOr<checkpoint::CheckpointInfo> JobRunner::WriteModel(
    const methods::Outcome& outcome,
    const std::shared_ptr<const pretrained::Companions>& companions,
    const checkpoint::CheckpointMetadata& metadata) const {
  if (outcome.checkpoint != nullptr) {
    std::vector<checkpoint::AttachedFile> attached;
    if (companions != nullptr) {
      for (const auto& [name, part] : companions->files) {
        attached.push_back({name, part.bytes()});
      }
    }
    return services_.checkpoints.Write(*outcome.checkpoint, metadata, attached);
  }
  return WriteLanguageCheckpoint(*outcome.language_checkpoint, metadata, services_.checkpoints);
}

absl::Status JobRunner::WriteCheckpoint(
    const methods::Outcome& outcome,
    const std::shared_ptr<const pretrained::Companions>& companions, Kept& kept) const {
  const absl::Duration start = services_.clock.Elapsed();
  const v1::RoundSummary& summary = *outcome.committed;
  const std::string job = job_.name().substr(sizeof("jobs/") - 1);
  checkpoint::CheckpointMetadata metadata;
  metadata.job = job;
  metadata.round = summary.round();
  metadata.run = summary.run();
  metadata.owner = job_.owner();
  metadata.method = job_.spec().method().name();
  metadata.model_spec = outcome.model_spec == nullptr ? job_.spec().model() : *outcome.model_spec;
  metadata.data_spec = job_.spec().data();
  metadata.seed = job_.spec().seed();
  metadata.main_metric_name = job_.spec().evaluation().main_metric();
  if (outcome.checkpoint != nullptr && !outcome.checkpoint->optimizer_state.empty()) {
    metadata.optimizer = {job_.spec().training().optimizer(), outcome.optimizer_steps};
  }
  if (summary.has_main_metric()) metadata.main_metric = summary.main_metric();
  metadata.create_time = services_.clock.Wall();
  ESPALIER_ASSIGN_OR_RETURN(kept.checkpoint, WriteModel(outcome, companions, metadata));
  const auto pruned = services_.checkpoints.Prune(job, job_.spec().checkpoint().keep());
  if (!pruned.ok()) {
    log::Warning("checkpoint_not_pruned",
                 {{"job", job}, {"message", base::MessageOf(pruned.status())}});
  }
  kept.checkpoint_seconds = absl::ToDoubleSeconds(services_.clock.Elapsed() - start);
  return absl::OkStatus();
}

JobRunner::KeptNewest JobRunner::KeepNewest(const std::vector<NewestModels::Model>& newest) const {
  KeptNewest result;
  try {
    for (const NewestModels::Model& model : newest) {
      Kept kept;
      result.status = WriteCheckpoint(model.outcome, model.companions, kept);
      if (!result.status.ok()) break;
      result.kept.push_back(std::move(kept));
    }
  } catch (const std::bad_alloc&) {
    result.status = OutOfMemory();
  } catch (const std::length_error&) {
    result.status = OutOfMemory();
  }
  return result;
}

}  // namespace espalier::server::jobs
