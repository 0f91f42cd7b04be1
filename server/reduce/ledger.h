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
#include "absl/status/statusor.h"
#include "common/io/byte_codec.h"
#include "server/reduce/reducer.h"

namespace espalier::server::reduce {

class Ledger {
 public:
  // `min_examples` is the least number of examples a partial may stand for.
  explicit Ledger(int64_t min_examples) : min_examples_(min_examples) {}

  // Whether `partial` may be added. Errors: AlreadyExists (DUPLICATE_PARTICIPANT);
  // FailedPrecondition (REDUCER_SPENT); InvalidArgument (NO_EXAMPLES, NON_FINITE,
  // VALUE_IMPOSSIBLE).
  absl::Status Check(const Partial& partial) const;
  // Remembers the scalars of `partial`, which Check() accepted.
  void Add(const Partial& partial);
  // What Add() was given so far, to be read by Read(); other fields follow.
  void Save(io::ByteWriter& writer) const;
  // Errors: SAVED_SUMS_INVALID for what Save() did not write; those of Check().
  static absl::StatusOr<Ledger> Read(int64_t min_examples, io::ByteReader& reader);
  // Whether everything in `other` may be added. Errors: those of Check().
  absl::Status CheckAbsorb(const Ledger& other) const;
  // Adds it, after CheckAbsorb().
  void Absorb(Ledger other) { entries_.merge(other.entries_); }
  bool empty() const { return entries_.empty(); }
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
