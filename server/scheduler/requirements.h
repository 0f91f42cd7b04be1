// What a worker must have and declare to be given a job's tasks.
//
// Units:       bytes; floating-point operations of one task.
// Threading:   pure functions.
#pragma once

#include <functional>
#include <string>

#include "espalier/v1/cluster.pb.h"

namespace espalier::server::scheduler {

struct Requirements {
  std::string dataset;  // "" = none
  // The data set as the worker has it in the job's view; null when it cannot do the job with it.
  // Absent: any folder of that name, as the worker described it when it registered.
  std::function<const v1::DatasetInfo*(const v1::Worker&)> describe = {};
  int64_t memory_bytes = 0;  // beside the data set; 0 = not known
  // Of one task, where the worker's data set has so many training examples. Absent: not counted.
  std::function<double(int64_t)> flops = {};
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
// Within the budgets that the worker declared.
bool HasBudget(const v1::Worker& worker, const Requirements& needs);

}  // namespace espalier::server::scheduler
