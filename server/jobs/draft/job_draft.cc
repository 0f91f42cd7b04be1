#include "server/jobs/draft/job_draft.h"

#include <algorithm>
#include <map>
#include <utility>

#include "common/base/status.h"
#include "common/config/parameters.h"
#include "server/datasets/dataset_fit.h"
#include "server/jobs/draft/pretrained.h"
#include "server/jobs/draft/resources.h"

namespace espalier::server::jobs {
namespace {

using Answer = datasets::DatasetViews::Answer;

// The first of them, as many as a reader wants.
std::string Joined(const std::set<std::string>& words) {
  constexpr size_t kShown = 20;
  std::string text;
  size_t shown = 0;
  for (const std::string& word : words) {
    if (shown++ == kShown) break;
    text += (text.empty() ? "" : ", ") + word;
  }
  if (words.size() > kShown) text += " and " + std::to_string(words.size() - kShown) + " more";
  return text.empty() ? "none" : text;
}

// Whether it is about a size that the data set says and the job leaves out.
bool IsLeftOutSize(const config::Violation& violation) {
  const bool is_size =
      violation.field == "model.input_features" || violation.field.ends_with(".linear.units") ||
      violation.field == "model.recommender.users" || violation.field == "model.recommender.items";
  return is_size && violation.description.ends_with("found 0");
}

// Of a job that nobody has described the data set of: sizes that it leaves out are not known yet.
absl::Status ExplainSizes(const v1::JobSpec& spec, const datasets::DatasetViews::Answer& answer,
                          std::vector<config::Violation>& violations) {
  v1::JobSpec sized = spec;
  config::AssumeSizes(sized);
  if (sized.SerializeAsString() == spec.SerializeAsString() || !TouchesData(spec)) {
    return absl::OkStatus();
  }
  const std::string& name = spec.data().dataset();
  if (!answer.silent.empty()) {
    return base::MakeError(
        absl::StatusCode::kUnavailable, "DATASET_BEING_READ",
        "expected a worker that has read data set '" + name + "', found that these are still at " +
            "it: " + Joined(answer.silent) +
            "; submit the job again in a moment, or write the sizes of its data into the job");
  }
  std::map<std::string, int> refusals;
  for (const auto& [worker, refused] : answer.refusing) ++refusals[refused];
  for (config::Violation& violation : violations) {
    if (!IsLeftOutSize(violation)) continue;
    violation.description += "; it may be left out while a worker that has data set '" + name +
                             "' is connected, which says it" + config::AndRefusing(refusals, name);
  }
  return absl::OkStatus();
}

// That somebody has the data set, where anybody is connected. Without workers nobody can tell; the job
// then waits for one that offers the data set. While workers are still reading it, the job waits for
// them.
void CheckAnswer(const v1::JobSpec& spec, const Answer& answer,
                 const std::optional<std::set<std::string>>& offered,
                 std::vector<config::Violation>& violations) {
  if (!offered.has_value() || !TouchesData(spec)) return;
  // Where workers have it and refuse the job, it waits for one that does not.
  if (!answer.described.empty() || !answer.silent.empty() || !answer.refusing.empty()) return;
  const std::string& name = spec.data().dataset();
  const std::string nearest = config::Nearest(name, {offered->begin(), offered->end()});
  violations.push_back(
      {"data.dataset", "expected a data set that a connected worker offers (" + Joined(*offered) +
                           "), found '" + name + "'" +
                           (nearest.empty() ? "; put it under a worker's --data-root; "
                                              "`espalier dataset list` says what is there and "
                                              "cannot be used"
                                            : "; did you mean '" + nearest + "'?")});
}

// Fills in what the job leaves out, and finds what is wrong with it.
absl::Status Complete(const Answer& answer, const std::optional<std::set<std::string>>& offered,
                      const checkpoint::CheckpointStore& checkpoints,
                      const methods::MethodRegistry& methods, JobDraft& draft) {
  v1::JobSpec& spec = draft.spec;
  std::optional<datasets::Agreed>& agreed = draft.agreed;
  std::vector<config::Violation>& violations = draft.violations;
  spec.mutable_data()->clear_agreement();
  if (!answer.described.empty()) {
    agreed = datasets::Agree(spec.data(), answer.described, violations);
    // What does not fit the data is said only once it is known what the data is.
    if (!agreed.has_value()) return Invalid(violations);
    datasets::FillIn(agreed->info, spec, violations);
    if (!violations.empty()) return Invalid(violations);
  }
  ResolvePretrained(checkpoints, methods.library(), config::IsPruningMethod(spec.method().name()),
                    *spec.mutable_model(), violations);
  config::ApplyDefaults(spec);
  for (config::Violation& violation : config::ValidateJobSpec(spec)) {
    violations.push_back(std::move(violation));
  }
  if (!spec.method().name().empty()) methods.Validate(spec, violations);  // else reported above
  // Nothing is computed from a job in which something is wrong so far.
  if (!violations.empty()) {
    if (!agreed.has_value()) {
      // Sizes that are not known because of a wrong name are no mistakes of their own.
      std::vector<config::Violation> unknown;
      CheckAnswer(spec, answer, offered, unknown);
      if (!unknown.empty() && std::erase_if(violations, IsLeftOutSize) > 0) {
        violations.insert(violations.begin(), unknown.begin(), unknown.end());
      }
      ESPALIER_RETURN_IF_ERROR(ExplainSizes(spec, answer, violations));
    }
    return Invalid(violations);
  }
  if (!config::IsPruningMethod(spec.method().name())) {
    const methods::MethodDeclaration* method = methods.Find(spec.method().name());
    CheckPretrainedModel(checkpoints, methods.library(), method == nullptr || !method->keeps_zeros,
                         spec.model(), violations);
  }
  CheckAnswer(spec, answer, offered, violations);
  if (agreed.has_value()) {
    for (config::Violation& misfit : datasets::Misfits(spec, agreed->info)) {
      violations.push_back(std::move(misfit));
    }
  }
  if (!violations.empty()) return Invalid(violations);
  ESPALIER_ASSIGN_OR_RETURN(const int32_t rounds, methods.CountRounds(spec));
  spec.mutable_federation()->set_rounds(rounds);
  ESPALIER_ASSIGN_OR_RETURN(draft.plan, PlanOf(spec, methods));
  return absl::OkStatus();
}

}  // namespace

config::JobTraits TraitsOf(const v1::JobSpec& spec, const std::string& owner) {
  return {owner, spec.method().name(), spec.data().dataset()};
}

bool TouchesData(const v1::JobSpec& spec) { return spec.method().name() != "echo"; }

absl::Status Invalid(const std::vector<config::Violation>& violations) {
  return base::InvalidArgument("INVALID_JOB", "the job has " + std::to_string(violations.size()) +
                                                  (violations.size() == 1 ? " error" : " errors"));
}

absl::StatusOr<JobPlan> PlanOf(const v1::JobSpec& spec, const methods::MethodRegistry& methods) {
  JobPlan plan;
  ESPALIER_ASSIGN_OR_RETURN(plan.needs, RequirementsOf(spec, methods));
  ESPALIER_ASSIGN_OR_RETURN(plan.counts, admission::CountsOf(spec, methods));
  ESPALIER_ASSIGN_OR_RETURN(plan.program, methods.Make(spec));
  return plan;
}

JobDraft DraftOf(const v1::JobSpec& given, const Answer& answer,
                 const std::optional<std::set<std::string>>& offered,
                 const checkpoint::CheckpointStore& checkpoints,
                 const methods::MethodRegistry& methods) {
  JobDraft draft;
  draft.spec = given;
  draft.status = Complete(answer, offered, checkpoints, methods, draft);
  return draft;
}

}  // namespace espalier::server::jobs
