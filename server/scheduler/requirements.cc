#include "server/scheduler/requirements.h"

#include <algorithm>

namespace espalier::server::scheduler {
namespace {

const v1::DatasetInfo* Find(const v1::Worker& worker, const std::string& dataset) {
  const auto& datasets = worker.datasets();
  const auto it = std::find_if(datasets.begin(), datasets.end(),
                               [&](const auto& info) { return info.name() == dataset; });
  return it == datasets.end() ? nullptr : &*it;
}

// Examples stay bytes where their files hold bytes; a label is an int32.
int64_t MemoryOf(const v1::DatasetInfo& info) {
  const bool bytes = info.format() == "idx" || info.format() == "cifar10";
  const int64_t example = info.features() * (bytes ? 1 : 4) + 4;
  return (info.train_examples() + info.test_examples()) * example;
}

}  // namespace

Demand DemandOn(const v1::Worker& worker, const Requirements& needs) {
  Demand demand{.memory_bytes = needs.memory_bytes};
  auto examples = static_cast<double>(needs.examples);
  if (const v1::DatasetInfo* info = Find(worker, needs.dataset); info != nullptr) {
    demand.memory_bytes += MemoryOf(*info);
    int64_t train = info->train_examples();
    if (needs.train_limit > 0) train = std::min(train, needs.train_limit);
    examples += needs.passes * static_cast<double>(train);
  }
  demand.flops = needs.flops_per_example * examples;
  return demand;
}

bool OffersData(const v1::Worker& worker, const Requirements& needs) {
  return needs.dataset.empty() || Find(worker, needs.dataset) != nullptr;
}

bool HasBudget(const v1::Worker& worker, const Requirements& needs) {
  const Demand demand = DemandOn(worker, needs);
  const bool memory =
      worker.memory_budget_bytes() == 0 || demand.memory_bytes <= worker.memory_budget_bytes();
  return memory && (worker.flops_budget() == 0 || demand.flops <= worker.flops_budget());
}

}  // namespace espalier::server::scheduler
