// What a worker must have and declare to be given a job's tasks.
//
// Units:       bytes; floating-point operations of one task.
// Threading:   pure functions.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "common/config/access/worker_policy.h"
#include "espalier/v1/cluster.pb.h"
#include "espalier/v1/worker.pb.h"

namespace espalier::server::scheduler {

struct Requirements {
  std::string dataset;  // "" = none
  // The data set as the worker has it in the job's view; null when it cannot do the job with it.
  // Absent: any folder of that name, as the worker described it when it registered.
  std::function<const v1::DatasetInfo*(const v1::Worker&)> describe = {};
  int64_t memory_bytes = 0;  // beside the data set; 0 = not known
  // Of one task, where the worker's data set has so many training examples. Absent: not counted.
  std::function<double(int64_t)> flops = {};
  // What the worker's policy has to allow. Absent: policies do not matter.
  std::optional<config::JobTraits> job = {};
};

// What a task would take on this worker, by its description of the data set.
struct Demand {
  int64_t memory_bytes = 0;
  double flops = 0;
};
Demand DemandOn(const v1::Worker& worker, const Requirements& needs);

// Has the data set, in a form that the job can use.
bool OffersData(const v1::Worker& worker, const Requirements& needs);
// The id in a worker's name, "workers/{id}".
std::string WorkerId(const v1::Worker& worker);
// Whether it is connected, also one that is given no tasks.
bool IsConnected(const v1::Worker& worker);
// The worker's description of a data set; null when it has none of that name.
const v1::DatasetInfo* FindDataset(const v1::Worker& worker, const std::string& dataset);
// Whether the policy allows the job; null allows all.
bool IsAllowed(const v1::WorkerPolicy* policy, const Requirements& needs);
// Within the budgets that the worker declared.
bool HasBudget(const v1::Worker& worker, const Requirements& needs);

}  // namespace espalier::server::scheduler
