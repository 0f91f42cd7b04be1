// The metric catalogue: every metric that Espalier's processes export, declared once. Series, help
// texts and docs/metrics.md all come from this table.
//
// Labels are closed sets of words; nothing that comes from outside becomes a label. All series
// exist from the start, so none is missing before its first event.
#pragma once

#include <span>
#include <string_view>
#include <vector>

namespace espalier::metrics {

enum class Type { kCounter, kGauge, kHistogram };
enum class Role { kCoordinator, kWorker, kBoth };

enum class Metric {
  kBuildInfo,
  kLogMessages,
  kProcessCpu,
  kProcessMemory,
  kProcessThreads,
  kProcessOpenFiles,
  kProcessMaxFiles,
  kProcessStart,
  kJobs,
  kJobsWaiting,
  kJobFailures,
  kJobOldestProgress,
  kWorkers,
  kTasks,
  kRounds,
  kQuorumMissed,
  kTrainFlops,
  kRoundPhaseDuration,
  kRoundLastCommit,
  kUpdates,
  kUpdateRejections,
  kWorkerStrikes,
  kUpdateBytes,
  kBlobBytes,
  kLeaseExpirations,
  kReconnects,
  kAggregationDuration,
  kCheckpointDuration,
  kCheckpointBytes,
  kCheckpointFailures,
  kDataDirFree,
  kDataDirSize,
  kRpcDuration,
  kRpcHandled,
  kExecutorQueueLength,
  kExecutorTaskDuration,
  kCoordinatorActive,
  kConnectionsRefused,
  kCallsLimited,
  kHandshakesFailed,
  kSelfProbeFailures,
  kCallsRefused,
  kCertificateExpiry,
  kAuditEntries,
  kAuditFaults,
  kWorkerConnected,
  kWorkerTasks,
  kWorkerTaskDuration,
  kWorkerExamples,
  kWorkerTransferBytes,
  kWorkerActiveWeights,
  kWorkerPeakMemory,
  kWorkerOneDnnFailures,
};

struct Definition {
  Metric metric;
  std::string_view name;
  Type type;
  Role role;
  std::string_view help;
  std::string_view label = {};                // "" = none
  std::vector<std::string_view> values = {};  // closed set of the label's values
  std::string_view second_label = {};         // only with a first one
  std::vector<std::string_view> second_values = {};
  std::vector<double> buckets = {};  // histograms
};

std::span<const Definition> Catalogue();
const Definition& Find(Metric metric);

// docs/metrics.md.
std::string CatalogueAsMarkdown();

}  // namespace espalier::metrics
