// UpdateGate: every check that a result of a worker passes before it counts, in the order in which
// they are made: cheap ones first, those of the header before a byte of the body is read. What a
// check looks at is known elsewhere, and so is its arithmetic; that it is made, when, and what a
// refusal says of the worker is here.
//
// #  check                                      reason                    when   strike where
// 1  not the bytes of another update (a         UPDATE_ID_REUSED          header yes    jobs/update_ledger
//    repetition is acknowledged)
// 2  the session has the lease, in this life    LEASE_EXPIRED             header no     scheduler/fleet
//    of the coordinator and this epoch
// 3  no other worker has it                     LEASE_OF_ANOTHER          header yes    scheduler/fleet
// 4  the step is in work                        ROUND_CLOSED              header no     here
// 5  the update has an id                       INVALID_UPDATE_ID         header yes    round/claims
// 6  kinds, counts and sizes of its sections    SHAPE_MISMATCH            header yes    wire/model_spec
// 7  the structure is the task's                TOPOLOGY_VERSION_MISMATCH header yes    here
// 8  no more examples than the shard holds      EXAMPLES_OUT_OF_RANGE     header yes    round/claims
// 9  loss, hits, steps, metrics, memory, time   CLAIM_OUT_OF_RANGE        header yes    round/claims
// 10 time spent: no longer than the lease has   (it is corrected)         body   no     here
//    lasted
// 11 place and checksum of each chunk           CHUNK_OUT_OF_ORDER        body   no     wire/blob
//                                               CHUNK_CORRUPT             body   no     wire/blob
// 12 all of the body came, and no more          BLOB_SIZE_MISMATCH        body   yes    wire/blob
// 13 its digest                                 BLOB_DIGEST_MISMATCH      body   yes    wire/blob
//    1 to 9 again: the step may be over by now
// 14 shapes of what is in the body: scores,     SCORES_INVALID            body   yes    wire/values_codec
//    statistics, a changed structure            INDEX_SET_INVALID         body   yes    wire/index_set
//                                               STATISTICS_INVALID        body   yes    reduce
//                                               READJUSTMENT_INVALID      body   yes    round/upload
//                                               TOPOLOGY_INVALID          body   yes    wire/topology_codec
//                                               TOPOLOGY_HASH_MISMATCH    body   yes    wire/topology_codec
// 15 the participant is new to the step         DUPLICATE_PARTICIPANT     body   no     reduce/ledger
// 16 some examples, where a mean needs them     NO_EXAMPLES               body   no     reduce/ledger
// 17 numbers that can be: no variance below 0,  VALUE_IMPOSSIBLE          body   yes    reduce, round/upload
//    no score of a weight that exists
// 18 every number is finite                     NON_FINITE                body   yes    reduce/value_check
// 19 norm: |value| times examples can be summed VALUE_OUT_OF_RANGE        body   no     reduce/value_check
//    exactly
//
// Strikes:     what no honest worker's result is refused for: a worker of this version looks at its
//              numbers itself and fails the task instead of sending what is not finite. Three strikes
//              put it into quarantine (scheduler/quarantine.h). No strikes are: what is late; damage
//              on the way, which chunks' checksums find; limits of transfers; and huge values, which
//              honest training that diverges has as well. A time that is too long is none, since a
//              worker that kept its result over a lost connection hands it in under a younger lease.
// Norm:        check 19 is the only limit of a norm that every job has: what is a large step for one
//              model is a small one for another. Where a job has a clip_norm, finite updates are scaled
//              down to it before; rules that compare updates (median, trimmed mean, Krum) have no sum
//              that could overflow, and so no check 19.
// Answers to questions (jobs/questions) pass 1 to 14; they are not added to anything.
// Threading:   the header's checks live on the core executor, the body's run anywhere.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/tensor/model.h"
#include "espalier/v1/worker.pb.h"
#include "server/jobs/update_ledger.h"
#include "server/reduce/reducer.h"
#include "server/round/step_in_work.h"
#include "server/round/upload.h"
#include "server/scheduler/fleet.h"

namespace espalier::server::admission {

// What a refusal says of the worker, by its reason.
struct Refusal {
  std::string_view reason;
  bool strike = false;
};
// All reasons of the checks, in their order.
std::span<const Refusal> Refusals();
// Whether a worker whose result was refused for this reason is not an honest one.
bool IsStrike(std::string_view reason);

// What is known of an update that may come in.
enum class Known { kNew, kBeingCounted, kCounted };

// Checks 1 to 9.
class UpdateGate {
 public:
  // Where a task is in work; nullopt: nowhere any more.
  using Find = std::function<std::optional<round::TaskInWork>(const std::string& task_id)>;

  // The first two are borrowed.
  UpdateGate(const scheduler::Fleet& fleet, const jobs::UpdateLedger& ledger, Find find)
      : fleet_(fleet), ledger_(ledger), find_(std::move(find)) {}

  // Errors: those of the checks. One that is not kNew came before, and is not checked again.
  absl::StatusOr<Known> CheckHeader(const v1::PartialHeader& header) const;

 private:
  const scheduler::Fleet& fleet_;
  const jobs::UpdateLedger& ledger_;
  const Find find_;
};

// Checks 5 to 9 of an update that is of this task.
absl::Status CheckAgainstTask(const v1::PartialHeader& header, const round::TaskInWork& in_work);

// Check 10: the seconds that count of those that the worker claims, with a lease of this age.
double SecondsSpent(const v1::PartialHeader& header, absl::Duration lease_age);

// Checks 14 to 19, the last of which are the reducer's, and then adds it: of a body whose digest was
// right. `partial` has the scalars of the header. The rest is what round::ReadSections() takes.
absl::Status CheckBodyAndMerge(const v1::Task& task, const tensor::ModelTopology& topology,
                               std::span<const float> start, const round::Upload& upload,
                               reduce::Partial& partial, reduce::Reducer& reducer);

}  // namespace espalier::server::admission
