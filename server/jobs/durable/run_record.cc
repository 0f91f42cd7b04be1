#include "server/jobs/durable/run_record.h"

#include "common/wire/proto_time.h"

namespace espalier::server::jobs {

store::RunRecord RecordOf(const Branch& branch, absl::Duration now) {
  store::RunRecord record;
  const round::Traffic& traffic = *branch.traffic;
  record.set_run(branch.run);
  record.set_sent(traffic.sent);
  record.set_received(traffic.received);
  record.set_values_sent(traffic.values_sent);
  record.set_values_received(traffic.values_received);
  record.set_round(branch.announced_round);
  record.set_round_start_sent(branch.round_start_sent);
  record.set_round_start_received(branch.round_start_received);
  record.set_round_start_values(branch.round_start_values);
  wire::SetDuration(now - branch.round_start, record.mutable_since_round_start());
  wire::SetDuration(now - branch.prelude_start, record.mutable_since_prelude_start());
  record.set_prelude_sent(branch.prelude_sent);
  record.set_prelude_received(branch.prelude_received);
  if (branch.sites.has_value()) *record.mutable_sites() = *branch.sites;
  if (branch.confusion.has_value()) *record.mutable_confusion() = *branch.confusion;
  for (const round::ParticipantSpec& participant : branch.participants) {
    store::ParticipantRecord& kept = *record.add_participants();
    kept.set_name(participant.name);
    kept.set_shard(participant.shard);
    kept.set_only_worker(participant.only_worker);
    kept.set_most_examples(participant.most_examples);
  }
  return record;
}

std::shared_ptr<Branch> BranchOf(const store::RunRecord& record, const std::string& job,
                                 absl::Duration now) {
  auto branch = std::make_shared<Branch>(record.run(), job);
  round::Traffic& traffic = *branch->traffic;
  traffic.sent = record.sent();
  traffic.received = record.received();
  traffic.values_sent = record.values_sent();
  traffic.values_received = record.values_received();
  branch->announced_round = record.round();
  branch->round_is_open = record.round() > 0;
  branch->round_start_sent = record.round_start_sent();
  branch->round_start_received = record.round_start_received();
  branch->round_start_values = record.round_start_values();
  branch->round_start = now - wire::FromProto(record.since_round_start());
  branch->prelude_start = now - wire::FromProto(record.since_prelude_start());
  branch->prelude_sent = record.prelude_sent();
  branch->prelude_received = record.prelude_received();
  if (record.has_sites()) branch->sites = record.sites();
  if (record.has_confusion()) branch->confusion = record.confusion();
  for (const store::ParticipantRecord& kept : record.participants()) {
    round::ParticipantSpec& participant = branch->participants.emplace_back();
    participant.name = kept.name();
    participant.shard = kept.shard();
    participant.only_worker = kept.only_worker();
    participant.most_examples = kept.most_examples();
  }
  return branch;
}

}  // namespace espalier::server::jobs
