#include "server/jobs/draft/resources.h"

#include <fmt/core.h>

#include <algorithm>

#include "common/base/status.h"
#include "common/wire/model_spec/cost.h"
#include "common/wire/model_spec/families/model_family.h"
#include "common/wire/model_spec/model_spec.h"

namespace espalier::server::jobs {
namespace {

constexpr double kMegabyte = 1e6;

// By how much the demand exceeds what the worker declared; "" if it does not.
std::string Excess(const v1::Worker& worker, const scheduler::Requirements& needs) {
  const scheduler::Demand demand = scheduler::DemandOn(worker, needs);
  std::string text;
  if (worker.memory_budget_bytes() > 0 && demand.memory_bytes > worker.memory_budget_bytes()) {
    const auto needed = static_cast<double>(demand.memory_bytes);
    const auto budget = static_cast<double>(worker.memory_budget_bytes());
    text = fmt::format("needs {:.1f} MB of memory, {:.1f} MB more than its {:.1f} MB",
                       needed / kMegabyte, (needed - budget) / kMegabyte, budget / kMegabyte);
  }
  if (worker.flops_budget() > 0 && demand.flops > worker.flops_budget()) {
    text += fmt::format("{}needs {:.3g} FLOPs a task, {:.3g} more than its {:.3g}",
                        text.empty() ? "" : " and ", demand.flops,
                        demand.flops - worker.flops_budget(), worker.flops_budget());
  }
  return text;
}

}  // namespace

absl::StatusOr<scheduler::Requirements> RequirementsOf(const v1::JobSpec& spec,
                                                       const methods::MethodRegistry& methods) {
  if (spec.method().name() == "echo") return scheduler::Requirements{};  // touches no data
  scheduler::Requirements needs{.dataset = spec.data().dataset()};
  // A language model that is pruned goes through a worker block by block.
  if (wire::FamilyOf(spec.model()).form() == wire::ModelForm::kInParts) return needs;
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<int64_t> stored, methods.StoredCounts(spec));
  ESPALIER_ASSIGN_OR_RETURN(const wire::ModelCost cost, wire::ModelCost::Create(spec));
  const v1::Training& training = spec.training();
  needs.memory_bytes = cost.WorkerBytes(stored, training);
  ESPALIER_ASSIGN_OR_RETURN(const auto layout, wire::LayoutOf(spec.model()));
  for (const tensor::TensorSpec& tensor : *layout) {
    needs.memory_bytes += methods.Find(spec.method().name())->bytes_per_position * tensor.size();
  }
  needs.flops = [cost, stored, spec](int64_t examples) {
    if (spec.data().train_limit() > 0) examples = std::min(examples, spec.data().train_limit());
    const int32_t shards = std::max(1, spec.data().partition().shards());
    return cost.LoadFlops(stored, {.steps = spec.training().local_steps(),
                                   .passes = static_cast<double>(spec.training().local_epochs()),
                                   .batch_size = spec.training().batch_size(),
                                   .examples = static_cast<double>(examples) / shards});
  };
  return needs;
}

void CheckBudgets(const v1::JobSpec& spec, const scheduler::Requirements& needs,
                  const std::vector<v1::Worker>& workers,
                  std::vector<config::Violation>& violations) {
  int offering = 0;
  int able = 0;
  std::string excesses;
  for (const v1::Worker& worker : workers) {
    if (worker.state() != v1::Worker::STATE_ACTIVE || !OffersData(worker, needs)) continue;
    ++offering;
    const std::string excess = Excess(worker, needs);
    able += excess.empty() ? 1 : 0;
    if (!excess.empty()) excesses += fmt::format("; on {} it {}", worker.name(), excess);
  }
  if (offering == 0 || excesses.empty() || able >= std::max(1, spec.federation().min_workers())) {
    return;
  }
  violations.push_back(
      {"method",
       fmt::format("expected a plan within the budgets of {} workers, found {} of {}{}; "
                   "lower the density, training.batch_size or the model's width, or "
                   "start workers with larger --memory-budget and --flops-budget",
                   std::max(1, spec.federation().min_workers()), able, offering, excesses)});
}

}  // namespace espalier::server::jobs
