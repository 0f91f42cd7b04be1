#include "server/scheduler/requirements.h"

#include <algorithm>

namespace espalier::server::scheduler {
namespace {

constexpr double kMostBytes = 0x1p60;

// Examples stay bytes where their files hold bytes; a label is an int32.
int64_t MemoryOf(const v1::DatasetInfo& info) {
  const bool bytes = info.format() == "idx" || info.format() == "cifar10";
  const double example = static_cast<double>(info.features()) * (bytes ? 1 : 4) + 4;
  const double all =
      (static_cast<double>(info.train_examples()) + static_cast<double>(info.test_examples())) *
      example;
  // A worker's own numbers may be anything; their product need not fit an integer.
  return static_cast<int64_t>(std::min(all, kMostBytes));
}

const v1::DatasetInfo* DatasetOf(const v1::Worker& worker, const Requirements& needs) {
  return needs.describe ? needs.describe(worker) : FindDataset(worker, needs.dataset);
}

}  // namespace

bool IsConnected(const v1::Worker& worker) {
  return worker.state() == v1::Worker::STATE_ACTIVE ||
         worker.state() == v1::Worker::STATE_DRAINING ||
         worker.state() == v1::Worker::STATE_QUARANTINED;
}

std::string WorkerId(const v1::Worker& worker) {
  return worker.name().substr(sizeof("workers/") - 1);
}

const v1::DatasetInfo* FindDataset(const v1::Worker& worker, const std::string& dataset) {
  const auto& datasets = worker.datasets();
  const auto it = std::find_if(datasets.begin(), datasets.end(),
                               [&](const auto& info) { return info.name() == dataset; });
  return it == datasets.end() ? nullptr : &*it;
}

Demand DemandOn(const v1::Worker& worker, const Requirements& needs) {
  Demand demand{.memory_bytes = needs.memory_bytes};
  const v1::DatasetInfo* info = DatasetOf(worker, needs);
  if (info != nullptr) demand.memory_bytes += MemoryOf(*info);
  if (needs.flops) demand.flops = needs.flops(info == nullptr ? 0 : info->train_examples());
  return demand;
}

bool OffersData(const v1::Worker& worker, const Requirements& needs) {
  if (needs.dataset.empty()) return true;
  return DatasetOf(worker, needs) != nullptr;
}

bool IsAllowed(const v1::WorkerPolicy* policy, const Requirements& needs) {
  return policy == nullptr || !needs.job.has_value() ||
         config::RefusedBy(*policy, *needs.job).empty();
}

bool HasBudget(const v1::Worker& worker, const Requirements& needs) {
  const Demand demand = DemandOn(worker, needs);
  const bool memory =
      worker.memory_budget_bytes() == 0 || demand.memory_bytes <= worker.memory_budget_bytes();
  return memory && (worker.flops_budget() == 0 || demand.flops <= worker.flops_budget());
}

}  // namespace espalier::server::scheduler
