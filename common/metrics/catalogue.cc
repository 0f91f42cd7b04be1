#include "common/metrics/catalogue.h"

#include <fmt/format.h>

#include <string>

#include "common/base/check.h"

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
                      "chunk_corrupt",
                      "blob_digest_mismatch",
                      "blob_size_mismatch",
                      "no_examples",
                      "duplicate_participant",
                      "other"};
  const Words methods{"CreateJob",
                      "GetJob",
                      "ListJobs",
                      "WatchJob",
                      "ListRounds",
                      "CancelJob",
                      "ListMethods",
                      "DescribeMethod",
                      "ListWorkers",
                      "GetClusterInfo",
                      "ListCheckpoints",
                      "GetCheckpoint",
                      "DownloadCheckpoint",
                      "Recommend",
                      "Predict",
                      "Session",
                      "Fetch",
                      "Submit",
                      "other"};
  const Words codes{"ok",          "cancelled",         "invalid_argument",    "not_found",
                    "aborted",     "already_exists",    "failed_precondition", "resource_exhausted",
                    "unavailable", "deadline_exceeded", "permission_denied",   "other"};
  return {
      {Metric::kBuildInfo,
       "espalier_build_info",
       Type::kGauge,
       Role::kBoth,
       "Always 1; the label says which version runs.",
       "version",
       {ESPALIER_VERSION},
       "",
       {},
       {}},
      {Metric::kLogMessages,
       "espalier_log_messages_total",
       Type::kCounter,
       Role::kBoth,
       "Log messages by level, written or not.",
       "level",
       {"debug", "info", "warning", "error"},
       "",
       {},
       {}},
      {Metric::kJobs,
       "espalier_jobs",
       Type::kGauge,
       Role::kCoordinator,
       "Jobs by state.",
       "state",
       {"pending", "running", "cancelling", "cancelled", "succeeded", "failed"},
       "",
       {},
       {}},
      {Metric::kWorkers,
       "espalier_workers",
       Type::kGauge,
       Role::kCoordinator,
       "Workers by state.",
       "state",
       {"active", "draining", "lost"},
       "",
       {},
       {}},
      {Metric::kRounds,
       "espalier_rounds_total",
       Type::kCounter,
       Role::kCoordinator,
       "Rounds by how they ended.",
       "outcome",
       {"committed", "quorum_lost", "aborted"},
       "",
       {},
       {}},
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
      {Metric::kRoundLastCommit,
       "espalier_round_last_commit_timestamp_seconds",
       Type::kGauge,
       Role::kCoordinator,
       "Unix time of the last committed round of any job; 0 before the first.",
       "",
       {},
       "",
       {},
       {}},
      {Metric::kUpdates,
       "espalier_updates_total",
       Type::kCounter,
       Role::kCoordinator,
       "Results received, by what became of them.",
       "result",
       {"accepted", "duplicate", "late", "rejected"},
       "",
       {},
       {}},
      {Metric::kUpdateRejections,
       "espalier_update_rejections_total",
       Type::kCounter,
       Role::kCoordinator,
       "Refused results by reason.",
       "reason",
       reasons,
       "",
       {},
       {}},
      {Metric::kUpdateBytes,
       "espalier_update_bytes_total",
       Type::kCounter,
       Role::kCoordinator,
       "Bytes of accepted results (actual), and what they would have taken with dense "
       "models "
       "(dense_equivalent).",
       "kind",
       {"actual", "dense_equivalent"},
       "",
       {},
       {}},
      {Metric::kBlobBytes,
       "espalier_blob_bytes_total",
       Type::kCounter,
       Role::kCoordinator,
       "Bytes of models and structures sent to workers.",
       "",
       {},
       "",
       {},
       {}},
      {Metric::kLeaseExpirations,
       "espalier_lease_expirations_total",
       Type::kCounter,
       Role::kCoordinator,
       "Leases lost because their worker vanished.",
       "",
       {},
       "",
       {},
       {}},
      {Metric::kReconnects,
       "espalier_reconnects_total",
       Type::kCounter,
       Role::kCoordinator,
       "Registrations of workers that had been here before.",
       "",
       {},
       "",
       {},
       {}},
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
      {Metric::kCheckpointBytes,
       "espalier_checkpoint_bytes",
       Type::kGauge,
       Role::kCoordinator,
       "Size of the newest checkpoint.",
       "",
       {},
       "",
       {},
       {}},
      {Metric::kCheckpointFailures,
       "espalier_checkpoint_failures_total",
       Type::kCounter,
       Role::kCoordinator,
       "Checkpoints that could not be written.",
       "",
       {},
       "",
       {},
       {}},
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
      {Metric::kRpcHandled,
       "espalier_rpc_handled_total",
       Type::kCounter,
       Role::kCoordinator,
       "Finished calls.",
       "method",
       methods,
       "code",
       codes,
       {}},
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
       {"core", "pool"},
       "",
       {},
       {}},
      {Metric::kConnectionsRefused,
       "espalier_connections_refused_total",
       Type::kCounter,
       Role::kCoordinator,
       "Connections to the API's port that were not taken: closed because there are too many "
       "(limit), "
       "or left waiting because the process or the machine has no descriptors (exhausted; one is "
       "counted each time it is tried).",
       "reason",
       {"limit", "exhausted"},
       "",
       {},
       {}},
      {Metric::kCallsLimited,
       "espalier_calls_limited_total",
       Type::kCounter,
       Role::kCoordinator,
       "Calls that were ended or refused because they passed a limit of time or number; for "
       "request_timeout, connections that were ended because no call came of what they sent.",
       "reason",
       {"register_timeout", "header_timeout", "transfer_stalled", "transfer_timeout",
        "transfers_full", "watch_stalled", "request_timeout", "other"},
       "",
       {},
       {}},
      {Metric::kHandshakesFailed,
       "espalier_tls_handshakes_failed_total",
       Type::kCounter,
       Role::kCoordinator,
       "TLS handshakes of clients that failed: without a certificate, with one that is out of date "
       "or was refused, "
       "because the client refused the coordinator's, or without TLS.",
       "reason",
       {"no_certificate", "certificate_out_of_date", "certificate_refused", "server_refused",
        "not_tls", "other"},
       "",
       {},
       {}},
      {Metric::kWorkerConnected,
       "espalier_worker_connected",
       Type::kGauge,
       Role::kWorker,
       "1 while the worker is registered with its coordinator.",
       "",
       {},
       "",
       {},
       {}},
      {Metric::kWorkerTasks,
       "espalier_worker_tasks_total",
       Type::kCounter,
       Role::kWorker,
       "Tasks by kind and how they ended.",
       "kind",
       {"train", "evaluate", "calibrate", "score", "growth", "channel_statistics", "recommend",
        "predict", "echo", "other"},
       "outcome",
       {"done", "failed", "cancelled"},
       {}},
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
        "predict"},
       "",
       {},
       {}},
      {Metric::kWorkerTransferBytes,
       "espalier_worker_transfer_bytes_total",
       Type::kCounter,
       Role::kWorker,
       "Bytes of models fetched and results submitted.",
       "direction",
       {"fetched", "submitted"},
       "",
       {},
       {}},
      {Metric::kWorkerActiveWeights,
       "espalier_worker_active_weights",
       Type::kGauge,
       Role::kWorker,
       "Stored values of the model in work.",
       "",
       {},
       "",
       {},
       {}},
      {Metric::kWorkerPeakMemory,
       "espalier_worker_peak_memory_bytes",
       Type::kGauge,
       Role::kWorker,
       "Largest resident memory of the process so far.",
       "",
       {},
       "",
       {},
       {}},
      {Metric::kWorkerOneDnnFailures,
       "espalier_worker_onednn_failures_total",
       Type::kCounter,
       Role::kWorker,
       "Products that oneDNN could not plan or run; the slow reference computes them.",
       "",
       {},
       "",
       {},
       {}},
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
    words += value == ESPALIER_VERSION ? "the version" : std::string(value);
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
