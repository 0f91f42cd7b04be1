#include "server/admission/update_gate.h"

#include <algorithm>
#include <array>

#include "common/base/status.h"
#include "common/wire/model_spec/result_sections.h"
#include "common/wire/proto_time.h"
#include "server/round/claims.h"

namespace espalier::server::admission {
namespace {

constexpr auto kRefusals = std::to_array<Refusal>({
    {"UPDATE_ID_REUSED", true},
    {"LEASE_EXPIRED", false},
    {"LEASE_OF_ANOTHER", true},
    {"ROUND_CLOSED", false},
    {"INVALID_UPDATE_ID", true},
    {"SHAPE_MISMATCH", true},
    {"TOPOLOGY_VERSION_MISMATCH", true},
    {"EXAMPLES_OUT_OF_RANGE", true},
    {"CLAIM_OUT_OF_RANGE", true},
    {"CHUNK_OUT_OF_ORDER", false},
    {"CHUNK_CORRUPT", false},
    {"BLOB_SIZE_MISMATCH", true},
    {"BLOB_DIGEST_MISMATCH", true},
    {"SCORES_INVALID", true},
    {"INDEX_SET_INVALID", true},
    {"STATISTICS_INVALID", true},
    {"READJUSTMENT_INVALID", true},
    {"TOPOLOGY_INVALID", true},
    {"TOPOLOGY_HASH_MISMATCH", true},
    {"DUPLICATE_PARTICIPANT", false},
    {"NO_EXAMPLES", false},
    {"VALUE_IMPOSSIBLE", true},
    {"NON_FINITE", true},
    {"VALUE_OUT_OF_RANGE", false},
});

}  // namespace

std::span<const Refusal> Refusals() { return kRefusals; }

bool IsStrike(std::string_view reason) {
  const auto* const found = std::ranges::find(kRefusals, reason, &Refusal::reason);
  return found != kRefusals.end() && found->strike;
}

absl::StatusOr<Known> UpdateGate::CheckHeader(const v1::PartialHeader& header) const {
  ESPALIER_ASSIGN_OR_RETURN(const bool counted, ledger_.WasCounted(header));
  if (counted) return Known::kCounted;
  // Its lease ended when it arrived for the first time.
  if (ledger_.IsBeingCounted(header.update_id())) return Known::kBeingCounted;
  ESPALIER_RETURN_IF_ERROR(fleet_.CheckLease(header.session(), header.task_id(), header.epoch()));
  const std::optional<round::TaskInWork> in_work = find_(header.task_id());
  if (!in_work.has_value()) return round::RoundClosed();
  ESPALIER_RETURN_IF_ERROR(CheckAgainstTask(header, *in_work));
  return Known::kNew;
}

absl::Status CheckAgainstTask(const v1::PartialHeader& header, const round::TaskInWork& in_work) {
  const v1::Task& task = in_work.task;
  ESPALIER_RETURN_IF_ERROR(round::CheckUpdateId(header));
  ESPALIER_RETURN_IF_ERROR(
      wire::CheckSections(task.sections(), header.sections(), header.body_bytes()));
  if (header.topology_hash() != task.model().topology_hash()) {
    return base::InvalidArgument("TOPOLOGY_VERSION_MISMATCH",
                                 "expected values for topology " + task.model().topology_hash() +
                                     ", found another; fetch the task's topology");
  }
  return round::CheckClaims(header, task, in_work.most_examples);
}

double SecondsSpent(const v1::PartialHeader& header, absl::Duration lease_age) {
  return absl::ToDoubleSeconds(std::clamp(wire::FromProto(header.compute_time()),
                                          absl::ZeroDuration(),
                                          std::max(lease_age, absl::ZeroDuration())));
}

absl::Status CheckBodyAndMerge(const v1::Task& task, const tensor::ModelTopology& topology,
                               std::span<const float> start, const round::Upload& upload,
                               reduce::Partial& partial, reduce::Reducer& reducer) {
  ESPALIER_RETURN_IF_ERROR(round::ReadSections(task, topology, start, upload, partial));
  return reducer.Merge(partial);
}

}  // namespace espalier::server::admission
