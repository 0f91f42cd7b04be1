#include "common/metrics/catalogue.h"

#include <fmt/format.h>

#include <string>

#include "common/base/check.h"
#include "common/base/version.h"

namespace espalier::metrics {
namespace {

using Words = std::vector<std::string_view>;

const std::vector<double>& RpcBuckets() {
  static const std::vector<double> buckets{.001, .0025, .005, .01, .025, .05, .1,
                                           .25,  .5,    1,    2.5, 5,    10};
  return buckets;
}

const std::vector<double>& RoundBuckets() {
  static const std::vector<double> buckets{.001, .0025, .01, .025, .1,  .25,  1,
                                           2.5,  10,    25,  100,  250, 1000, 3600};
  return buckets;
}

// NOLINTNEXTLINE(readability-function-size): one table, best read in one piece.
std::vector<Definition> MakeCatalogue() {
  const Words reasons{"lease_expired",
                      "round_closed",
                      "topology_version_mismatch",
                      "shape_mismatch",
                      "non_finite",
                      "value_out_of_range",
                      "value_impossible",
                      "examples_out_of_range",
                      "claim_out_of_range",
                      "update_id_reused",
                      "lease_of_another",
                      "chunk_corrupt",
                      "blob_digest_mismatch",
                      "blob_size_mismatch",
                      "no_examples",
                      "duplicate_participant",
                      "other"};
  const Words strikes{"update_id_reused",
                      "lease_of_another",
                      "invalid_update_id",
                      "shape_mismatch",
                      "topology_version_mismatch",
                      "examples_out_of_range",
                      "claim_out_of_range",
                      "blob_size_mismatch",
                      "blob_digest_mismatch",
                      "scores_invalid",
                      "index_set_invalid",
                      "statistics_invalid",
                      "readjustment_invalid",
                      "topology_invalid",
                      "topology_hash_mismatch",
                      "value_impossible",
                      "non_finite",
                      "other"};
  const Words methods{"CreateJob",
                      "GetJob",
                      "ListJobs",
                      "WatchJob",
                      "ListRounds",
                      "CancelJob",
                      "PauseJob",
                      "ResumeJob",
                      "RetryJob",
                      "DeleteJob",
                      "ListMethods",
                      "DescribeMethod",
                      "ListWorkers",
                      "GetClusterInfo",
                      "DrainWorker",
                      "UndrainWorker",
                      "ListCheckpoints",
                      "GetCheckpoint",
                      "DownloadCheckpoint",
                      "VerifyCheckpoint",
                      "DeleteCheckpoint",
                      "Recommend",
                      "Predict",
                      "GetTopology",
                      "WatchJobs",
                      "WatchWorkers",
                      "GetRoundProgress",
                      "GetSystem",
                      "WhoAmI",
                      "Join",
                      "RenewCertificate",
                      "RevokeWorker",
                      "CreateToken",
                      "ListTokens",
                      "RevokeToken",
                      "Session",
                      "Fetch",
                      "Submit",
                      "other"};
  const Words codes{"ok",          "cancelled",         "invalid_argument",    "not_found",
                    "aborted",     "already_exists",    "failed_precondition", "resource_exhausted",
                    "unavailable", "deadline_exceeded", "permission_denied",   "unauthenticated",
                    "other"};
  return {
      {Metric::kBuildInfo,
       "espalier_build_info",
       Type::kGauge,
       Role::kBoth,
       "Always 1; the label says which version runs.",
       "version",
       {base::Version()}},
      {Metric::kLogMessages,
       "espalier_log_messages_total",
       Type::kCounter,
       Role::kBoth,
       "Log messages by level, written or not.",
       "level",
       {"debug", "info", "warning", "error"}},
      {Metric::kProcessCpu, "process_cpu_seconds_total", Type::kCounter, Role::kBoth,
       "Processor time of the process, of all its threads."},
      {Metric::kProcessMemory, "process_resident_memory_bytes", Type::kGauge, Role::kBoth,
       "Resident memory of the process."},
      {Metric::kProcessThreads, "process_threads", Type::kGauge, Role::kBoth,
       "Threads of the process."},
      {Metric::kProcessOpenFiles, "process_open_fds", Type::kGauge, Role::kBoth,
       "Descriptors that the process has open: connections and files."},
      {Metric::kProcessMaxFiles, "process_max_fds", Type::kGauge, Role::kBoth,
       "How many descriptors the process may have open."},
      {Metric::kProcessStart, "process_start_time_seconds", Type::kGauge, Role::kBoth,
       "Unix time at which the process began."},
      {Metric::kJobs,
       "espalier_jobs",
       Type::kGauge,
       Role::kCoordinator,
       "Jobs by state.",
       "state",
       {"pending", "running", "paused", "cancelling", "cancelled", "succeeded", "failed"}},
      {Metric::kJobsWaiting,
       "espalier_jobs_waiting",
       Type::kGauge,
       Role::kCoordinator,
       "Jobs that have not ended and do not move at present, by the condition that says why.",
       "condition",
       {"waiting_workers", "waiting_memory", "waiting_storage", "cannot_go_on", "tasks_held_back",
        "waiting_planner", "waiting_quota", "other"}},
      {Metric::kJobFailures,
       "espalier_job_failures_total",
       Type::kCounter,
       Role::kCoordinator,
       "Jobs that failed, by reason; docs/reference/errors.md says what each means.",
       "reason",
       {"quorum_lost", "too_few_updates", "worker_failed", "out_of_memory", "non_finite",
        "value_out_of_range", "datasets_differ", "dataset_not_found", "dataset_invalid",
        "task_not_allowed", "memory_budget_exceeded", "transfer_damaged", "planner_silent",
        "other"}},
      {Metric::kJobOldestProgress, "espalier_jobs_oldest_progress_timestamp_seconds", Type::kGauge,
       Role::kCoordinator,
       "Of the jobs that run, the Unix time of the last progress of the one that has made none for "
       "longest: a round was committed, or the job began; 0 where none runs."},
      {Metric::kWorkers,
       "espalier_workers",
       Type::kGauge,
       Role::kCoordinator,
       "Workers by state.",
       "state",
       {"active", "draining", "quarantined", "lost", "left"}},
      {Metric::kTasks,
       "espalier_tasks",
       Type::kGauge,
       Role::kCoordinator,
       "Tasks of steps in work: waiting for a worker, or leased to one.",
       "state",
       {"waiting", "leased"}},
      {Metric::kRounds,
       "espalier_rounds_total",
       Type::kCounter,
       Role::kCoordinator,
       "Rounds by how they ended: each is counted once.",
       "outcome",
       {"committed", "quorum_lost", "aborted"}},
      {Metric::kQuorumMissed,
       "espalier_quorum_missed_total",
       Type::kCounter,
       Role::kCoordinator,
       "Deadlines that passed before a quorum of updates was there, by what followed.",
       "decision",
       {"extend", "proceed", "fail"}},
      {Metric::kTrainFlops,
       "espalier_train_flops_total",
       Type::kCounter,
       Role::kCoordinator,
       "Floating-point operations of training in committed rounds, by count (actual), and those of "
       "dense models (dense_equivalent).",
       "kind",
       {"actual", "dense_equivalent"}},
      {Metric::kRoundPhaseDuration,
       "espalier_round_phase_duration_seconds",
       Type::kHistogram,
       Role::kCoordinator,
       "Time from the start of a phase of a round to its end.",
       "phase",
       {"train", "evaluate", "plan", "aggregate", "checkpoint"},
       "",
       {},
       RoundBuckets()},
      {Metric::kRoundLastCommit, "espalier_round_last_commit_timestamp_seconds", Type::kGauge,
       Role::kCoordinator, "Unix time of the last committed round of any job; 0 before the first."},
      {Metric::kUpdates,
       "espalier_updates_total",
       Type::kCounter,
       Role::kCoordinator,
       "Results received, by what became of them.",
       "result",
       {"accepted", "duplicate", "late", "rejected"}},
      {Metric::kUpdateRejections, "espalier_update_rejections_total", Type::kCounter,
       Role::kCoordinator, "Refused results by reason.", "reason", reasons},
      {Metric::kWorkerStrikes, "espalier_worker_strikes_total", Type::kCounter, Role::kCoordinator,
       "Refused results that no correct worker sends, by reason; three put a worker into "
       "quarantine.",
       "reason", strikes},
      {Metric::kUpdateBytes,
       "espalier_update_bytes_total",
       Type::kCounter,
       Role::kCoordinator,
       "Bytes of accepted results (actual), and what they would have taken with dense "
       "models "
       "(dense_equivalent).",
       "kind",
       {"actual", "dense_equivalent"}},
      {Metric::kBlobBytes, "espalier_blob_bytes_total", Type::kCounter, Role::kCoordinator,
       "Bytes of models and structures sent to workers."},
      {Metric::kLeaseExpirations, "espalier_lease_expirations_total", Type::kCounter,
       Role::kCoordinator, "Leases lost because their worker vanished or was put into quarantine."},
      {Metric::kReconnects, "espalier_reconnects_total", Type::kCounter, Role::kCoordinator,
       "Registrations of workers that had been here before."},
      {Metric::kAggregationDuration,
       "espalier_aggregation_duration_seconds",
       Type::kHistogram,
       Role::kCoordinator,
       "Time to finish a reduce and decide on the next step.",
       "",
       {},
       "",
       {},
       RpcBuckets()},
      {Metric::kCheckpointDuration,
       "espalier_checkpoint_duration_seconds",
       Type::kHistogram,
       Role::kCoordinator,
       "Time to write and verify a checkpoint.",
       "",
       {},
       "",
       {},
       RpcBuckets()},
      {Metric::kCheckpointBytes, "espalier_checkpoint_bytes", Type::kGauge, Role::kCoordinator,
       "Size of the newest checkpoint."},
      {Metric::kCheckpointFailures, "espalier_checkpoint_failures_total", Type::kCounter,
       Role::kCoordinator, "Checkpoints that could not be written."},
      {Metric::kDataDirFree, "espalier_data_dir_free_bytes", Type::kGauge, Role::kCoordinator,
       "Bytes that the coordinator can still write to the file system of its data folder."},
      {Metric::kDataDirSize, "espalier_data_dir_size_bytes", Type::kGauge, Role::kCoordinator,
       "Size of the file system of the data folder."},
      {Metric::kRpcDuration,
       "espalier_rpc_duration_seconds",
       Type::kHistogram,
       Role::kCoordinator,
       "Time to answer a call; streams that stay open are not observed.",
       "method",
       methods,
       "",
       {},
       RpcBuckets()},
      {Metric::kRpcHandled, "espalier_rpc_handled_total", Type::kCounter, Role::kCoordinator,
       "Finished calls.", "method", methods, "code", codes},
      {Metric::kExecutorTaskDuration,
       "espalier_executor_task_duration_seconds",
       Type::kHistogram,
       Role::kCoordinator,
       "Time that one function took on an executor. While one runs on the core, which has a single "
       "thread, nothing else of the coordinator's state moves.",
       "executor",
       {"core", "pool"},
       "",
       {},
       RpcBuckets()},
      {Metric::kExecutorQueueLength,
       "espalier_executor_queue_length",
       Type::kGauge,
       Role::kCoordinator,
       "Functions waiting for an executor.",
       "executor",
       {"core", "pool"}},
      {Metric::kCoordinatorActive, "espalier_coordinator_active", Type::kGauge, Role::kCoordinator,
       "1 while this coordinator works on jobs, 0 while it stands by for another one."},
      {Metric::kConnectionsRefused,
       "espalier_connections_refused_total",
       Type::kCounter,
       Role::kCoordinator,
       "Connections to the API's port that were not taken: closed because there are too many "
       "(limit), or too many of one source (source), or left waiting because the process or the "
       "machine has no descriptors (exhausted; one is "
       "counted each time it is tried).",
       "reason",
       {"limit", "source", "exhausted"}},
      {Metric::kCallsLimited,
       "espalier_calls_limited_total",
       Type::kCounter,
       Role::kCoordinator,
       "Calls that were ended or refused because they passed a limit of time or number; for "
       "request_timeout and no_call, connections that were ended because no call came of what they "
       "sent, or none came at all.",
       "reason",
       {"register_timeout", "header_timeout", "transfer_stalled", "transfer_timeout",
        "transfers_full", "watch_stalled", "request_timeout", "no_call", "call_rate",
        "streams_full", "other"}},
      {Metric::kHandshakesFailed,
       "espalier_tls_handshakes_failed_total",
       Type::kCounter,
       Role::kCoordinator,
       "TLS handshakes of clients that failed: with a certificate that is out of date or was "
       "refused, "
       "because the client refused the coordinator's, or without TLS.",
       "reason",
       {"certificate_out_of_date", "certificate_refused", "server_refused", "not_tls", "other"}},
      {Metric::kSelfProbeFailures, "espalier_self_probe_failures_total", Type::kCounter,
       Role::kCoordinator,
       "Times that the coordinator did not hear itself when it connected to its own address. After "
       "three in a row it ends, to be started again."},
      {Metric::kCallsRefused,
       "espalier_calls_refused_total",
       Type::kCounter,
       Role::kCoordinator,
       "Calls that were refused because their caller is not known, or may not make them.",
       "reason",
       {"credentials_missing", "token_without_tls", "token_unknown", "token_expired",
        "certificate_expired", "certificate_revoked", "certificate_without_role",
        "role_not_allowed", "other"}},
      {Metric::kCertificateExpiry,
       "espalier_certificate_expiry_timestamp_seconds",
       Type::kGauge,
       Role::kBoth,
       "When a certificate ends: this coordinator's, its authority for workers, or this worker's; "
       "for revocations, when the list of revoked ones should be renewed. 0 where there is none.",
       "role",
       {"coordinator", "worker_authority", "revocations", "worker"}},
      {Metric::kAuditEntries,
       "espalier_audit_entries_total",
       Type::kCounter,
       Role::kCoordinator,
       "Entries of the audit log: on disk, or lost because it could not be written for long.",
       "outcome",
       {"written", "lost"}},
      {Metric::kAuditFaults,
       "espalier_audit_faults_total",
       Type::kCounter,
       Role::kCoordinator,
       "Faults of the audit log: a write that failed (it is tried again), a file that ended in the "
       "middle of a line, "
       "or one that was changed since it was written.",
       "kind",
       {"write_failed", "torn", "chain_broken"}},
      {Metric::kWorkerConnected, "espalier_worker_connected", Type::kGauge, Role::kWorker,
       "1 while the worker is registered with its coordinator."},
      {Metric::kWorkerTasks,
       "espalier_worker_tasks_total",
       Type::kCounter,
       Role::kWorker,
       "Tasks by kind and how they ended.",
       "kind",
       {"train", "evaluate", "calibrate", "score", "growth", "channel_statistics", "recommend",
        "predict", "echo", "other"},
       "outcome",
       {"done", "failed", "cancelled"}},
      {Metric::kWorkerTaskDuration,
       "espalier_worker_task_duration_seconds",
       Type::kHistogram,
       Role::kWorker,
       "Computation time of a task.",
       "kind",
       {"train", "evaluate", "calibrate", "score", "growth", "channel_statistics", "recommend",
        "predict", "echo", "other"},
       "",
       {},
       RoundBuckets()},
      {Metric::kWorkerExamples,
       "espalier_worker_examples_total",
       Type::kCounter,
       Role::kWorker,
       "Examples processed.",
       "kind",
       {"train", "evaluate", "calibrate", "score", "growth", "channel_statistics", "recommend",
        "predict"}},
      {Metric::kWorkerTransferBytes,
       "espalier_worker_transfer_bytes_total",
       Type::kCounter,
       Role::kWorker,
       "Bytes of models fetched and results submitted.",
       "direction",
       {"fetched", "submitted"}},
      {Metric::kWorkerActiveWeights, "espalier_worker_active_weights", Type::kGauge, Role::kWorker,
       "Stored values of the model in work."},
      {Metric::kWorkerPeakMemory, "espalier_worker_peak_memory_bytes", Type::kGauge, Role::kWorker,
       "Largest resident memory of the process so far."},
      {Metric::kWorkerOneDnnFailures, "espalier_worker_onednn_failures_total", Type::kCounter,
       Role::kWorker,
       "Products that oneDNN could not plan or run; the slow reference computes them."},
  };
}

const std::vector<Definition>& Table() {
  static const auto* table = new std::vector<Definition>(MakeCatalogue());
  return *table;
}

std::string LabelText(std::string_view label, const Words& values) {
  if (label.empty()) return "";
  std::string words;
  for (const std::string_view value : values) {
    if (!words.empty()) words += ", ";
    words += value == base::Version() ? "the version" : std::string(value);
  }
  return fmt::format("`{}`: {}", label, words);
}

}  // namespace

std::span<const Definition> Catalogue() { return Table(); }

const Definition& Find(Metric metric) {
  for (const Definition& definition : Table()) {
    if (definition.metric == metric) return definition;
  }
  ESPALIER_CHECK(false, "metric is not in the catalogue");
  std::abort();
}

std::string CatalogueAsMarkdown() {
  std::string text =
      "# Metrics\n\nGenerated from `common/metrics/catalogue.cc` by `espalier-coordinator "
      "--describe-metrics`; a test keeps it equal.\n\nBoth processes serve `/metrics` over HTTP on "
      "`--metrics-listen`. Training curves (loss, accuracy, density per round)\nare not here: they "
      "are in a job's events, see `espalier job watch`.\n\n"
      "| Metric | Type | Process | Labels | Meaning |\n| --- | --- | --- | --- | --- |\n";
  for (const Definition& d : Table()) {
    const char* type = d.type == Type::kCounter ? "counter"
                       : d.type == Type::kGauge ? "gauge"
                                                : "histogram";
    const char* role = d.role == Role::kBoth          ? "both"
                       : d.role == Role::kCoordinator ? "coordinator"
                                                      : "worker";
    std::string labels = LabelText(d.label, d.values);
    if (!d.second_label.empty()) labels += "; " + LabelText(d.second_label, d.second_values);
    text += fmt::format("| `{}` | {} | {} | {} | {} |\n", d.name, type, role, labels, d.help);
  }
  return text;
}

}  // namespace espalier::metrics
