// Branch: what the coordinator keeps of one run of a job while the run's step is in work. A job
// that trains one model has one branch; where several models are trained side by side, each has its
// own, and their steps share the fleet.
//
// Ownership:   the job's; steps hold what they need of it themselves.
// Threading:   lives on the core executor; a PublishedModel may be made on the pool.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "espalier/v1/progress.pb.h"
#include "server/jobs/corrections.h"
#include "server/jobs/language_model.h"
#include "server/reduce/reducer.h"
#include "server/round/blob_store.h"
#include "server/round/step_in_work.h"

namespace espalier::server::jobs {

// A model as workers fetch it.
struct PublishedModel {
  std::shared_ptr<const tensor::ModelTopology> structure;
  std::shared_ptr<const round::Blob> values;
  v1::SectionType values_type = v1::SECTION_TYPE_F32;
  std::shared_ptr<const round::Blob> optimizer_state;  // null: starts anew
  std::shared_ptr<const round::Blob> topology;         // `structure`, encoded
  // What leads to `structure` from the one before; null when it is the same or is all new.
  std::shared_ptr<const round::Blob> update;
  std::string update_base_hash;
  Corrections corrections;                                 // of the step in work
  std::shared_ptr<const PublishedLanguageModel> language;  // null: the model is values
};

struct Branch {
  Branch(std::string run_name, const std::string& job)
      : run(std::move(run_name)), traffic(std::make_shared<round::Traffic>(job)) {}

  const std::string run;  // "" where the job trains one model
  const std::shared_ptr<round::Traffic> traffic;
  PublishedModel model;

  std::shared_ptr<round::StepInWork> step;  // null: it has ended
  // Who does it. Empty: it has not begun yet.
  std::vector<round::ParticipantSpec> participants;
  std::optional<reduce::Reduced> reduced;  // what the step gave, once it has ended
  std::string phase;
  absl::Duration phase_start;

  // Of the round in work, without the step in work.
  v1::RoundProgress progress;

  int announced_round = -1;    // 0 is the prelude
  bool round_is_open = false;  // it has begun and is not counted as ended
  absl::Duration round_start;
  int64_t round_start_sent = 0;
  int64_t round_start_received = 0;
  int64_t round_start_values = 0;
  absl::Duration prelude_start;  // of its step in work
  int64_t prelude_sent = 0;      // told so far
  int64_t prelude_received = 0;

  // Of the round in work, once the sites have evaluated it.
  std::optional<v1::SiteEvaluations> sites;
  std::optional<v1::ConfusionMatrix> confusion;  // of the evaluation of the round in work
};

using Branches = std::vector<std::shared_ptr<Branch>>;

// The one of that run; null when there is none.
inline std::shared_ptr<Branch> FindBranch(const Branches& branches, const std::string& run) {
  for (const auto& branch : branches) {
    if (branch->run == run) return branch;
  }
  return nullptr;
}

}  // namespace espalier::server::jobs
