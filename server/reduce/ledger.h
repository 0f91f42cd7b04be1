// Ledger: who has been merged, and the scalars each sent.
//
// Memory:      O(participants).
// Threading:   not thread-safe.
// Determinism: sums are taken in the order of participant names, hence independent of arrival.
// Errors:      see Check().
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/reduce/reducer.h"

namespace espalier::server::reduce {

class Ledger {
 public:
  // `min_examples` is the least number of examples a partial may stand for.
  explicit Ledger(int64_t min_examples) : min_examples_(min_examples) {}

  // Whether `partial` may be added. Errors: AlreadyExists (DUPLICATE_PARTICIPANT);
  // FailedPrecondition (REDUCER_SPENT); InvalidArgument (NO_EXAMPLES, NON_FINITE,
  // VALUE_OUT_OF_RANGE).
  absl::Status Check(const Partial& partial) const;
  // Remembers the scalars of `partial`, which Check() accepted.
  void Add(const Partial& partial);
  // What was added so far, by participants' names.
  std::vector<Score> Scores() const;
  // Sums of the scalars; ends the ledger. Errors: FailedPrecondition (NO_PARTIALS, REDUCER_SPENT).
  absl::StatusOr<Reduced> Finish();

 private:
  struct Entry {
    int64_t examples;
    double loss_sum;
    int64_t correct;
    int64_t peak_memory_bytes;
    double compute_seconds;
    std::map<std::string, double> metric_sums;
  };
  int64_t min_examples_;
  std::map<std::string, Entry> entries_;
  bool finished_ = false;
};

}  // namespace espalier::server::reduce
