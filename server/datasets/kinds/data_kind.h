// DataKind: what follows from the kind of data that a job learns from. Found once by DataKindOf().
//
// Ownership: kinds are constants of the program; references to them stay valid.
// Threading: immutable; pure functions of their arguments.
#pragma once

#include <cstdint>
#include <vector>

#include "common/config/parameters.h"
#include "espalier/v1/job.pb.h"
#include "espalier/v1/worker.pb.h"

namespace espalier::server::datasets {

class DataKind {
 public:
  DataKind() = default;
  DataKind(const DataKind&) = delete;
  DataKind& operator=(const DataKind&) = delete;
  virtual ~DataKind() = default;

  // See dataset_fit.h.
  virtual std::vector<config::Violation> Misfits(const v1::JobSpec& spec,
                                                 const v1::DatasetInfo& info) const = 0;
  // See agreement.h.
  virtual void FillIn(const v1::DatasetInfo& info, v1::JobSpec& spec,
                      std::vector<config::Violation>& violations) const = 0;
  // How many examples an update of `task` can be about; 0 = the description does not tell. Of text
  // a token is at least one byte.
  virtual int64_t MostExamples(const v1::JobSpec& spec, const v1::Task& task,
                               const v1::DatasetInfo& info) const = 0;
};

// By what the job's examples have to be told: pairs, tokens, or anything of features.
const DataKind& DataKindOf(const v1::JobSpec& spec);

}  // namespace espalier::server::datasets
