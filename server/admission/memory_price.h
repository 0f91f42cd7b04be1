// The price of a job: the memory that it takes from the coordinator at most, before it exists.
//
// A job takes most either while the updates of a step are summed (the model and what is published
// of it, sums, updates that must be kept), or while the next model is made (the model before and
// after, both as they are published, and a copy for the checkpoint). The price is the larger of the
// two, and what the job takes all the time.
//
// Units:       bytes.
// Threading:   pure functions.
// Errors:      those of the model's layout and of the method's counts.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/tensor/model.h"
#include "espalier/v1/job.pb.h"
#include "server/methods/program.h"

namespace espalier::server::admission {

// One part of a price.
struct Part {
  std::string what;
  double bytes = 0;
  bool by_weights = false;       // proportional to the weights that the model stores
  bool by_participants = false;  // proportional to the number of participants
};

struct Price {
  double bytes = 0;         // of the job while it runs
  std::vector<Part> parts;  // what adds up to them
  // What the sizes behind it are.
  double stored_weights = 0;
  double sparse_weights = 0;  // those of them whose number the density decides
  int64_t participants = 0;
  // The part of `bytes` that comes with the rounds, as they are committed: RecordBytes() less the
  // record of a job without any.
  double history_bytes = 0;
  // Of the record: what there is from the beginning, and for each round.
  double record_bytes = 0;
  double round_bytes = 0;
  double updates_per_round = 0;
};

// What is kept of a job, to be shown and to know its updates again, after that many rounds; also
// when it has ended.
double RecordBytes(const Price& price, int32_t rounds);

// What a price is made of, beside the job itself.
struct Counts {
  methods::CoordinatorDemand demand;
  std::shared_ptr<const tensor::ModelLayout> layout;
  std::vector<int64_t> stored;  // values of each tensor
  int32_t total_rounds = 0;
};
// Of a valid job with its defaults.
absl::StatusOr<Counts> CountsOf(const v1::JobSpec& spec, const methods::MethodRegistry& methods);

// `workers` that are connected count as participants when data is local.
Price PriceOf(const v1::JobSpec& spec, const Counts& counts, int64_t workers);

}  // namespace espalier::server::admission
